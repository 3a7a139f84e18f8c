"""HTTP with one deadline for everything: the look-up of the name, the connection, and each byte of the answer.

A time-out of the socket alone would wait for ever for a server that sends one byte a second.
"""

import http.client
import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from deploy.text import plain

MAX_BODY = 16 * 1024 * 1024


class NoAnswer(Exception):
    """There was no complete answer. The text says why."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict
    """Names in lower case; a repeated one has its values joined by commas."""
    body: bytes
    seconds: float

    def json(self):
        """The body as JSON, or None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def why(self) -> str:
        """The status, and the detail of a problem document when there is one."""
        problem = self.json()
        detail = problem.get("detail") if isinstance(problem, dict) else None
        return f"answered {self.status}" + (f": {plain(str(detail))}" if detail else "")


def request(method: str, url: str, *, headers=None, body=None, deadline: float = 10.0) -> Answer:
    """One request. Redirects are not followed and proxies not used. A body that is no bytes is sent as JSON.

    Raises NoAnswer.
    """
    headers = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    exchange = _Exchange(method, url, headers, body, deadline)
    exchange.start()
    exchange.join(deadline)
    if exchange.is_alive():
        exchange.abort()
        raise NoAnswer(f"no complete answer within {deadline:g} s")
    if exchange.error is not None:
        raise NoAnswer(plain(exchange.error))
    return exchange.answer


class _Exchange(threading.Thread):
    """A thread of its own, because a look-up of a name cannot be given a time-out."""

    def __init__(self, method, url, headers, body, deadline):
        super().__init__(daemon=True)
        self.parts = urlsplit(url)
        self.arguments = (method, headers, body)
        self.answer = None
        self.error = None
        kind = http.client.HTTPSConnection if self.parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(self.parts.hostname, self.parts.port, timeout=deadline)

    def run(self):
        try:
            self.answer = self._exchange()
        except socket.gaierror:
            self.error = f"the name {self.parts.hostname} cannot be resolved"
        except ConnectionRefusedError:
            self.error = "connection refused"
        except ssl.SSLCertVerificationError as error:
            self.error = f"certificate refused: {error.verify_message}"
        except (OSError, http.client.HTTPException) as error:
            self.error = str(error) or type(error).__name__
        finally:
            self.connection.close()

    def _exchange(self) -> Answer:
        method, headers, body = self.arguments
        path = self.parts.path or "/"
        if self.parts.query:
            path += f"?{self.parts.query}"
        started = time.monotonic()
        self.connection.request(method, path, body=body, headers=headers)
        response = self.connection.getresponse()
        content = response.read(MAX_BODY + 1)
        if len(content) > MAX_BODY:
            raise http.client.HTTPException(f"the answer is larger than {MAX_BODY} bytes")
        if response.length:
            # `read` with a size does not say so itself.
            raise http.client.HTTPException(f"the answer was cut off, {response.length} bytes are missing")
        found = {}
        for name, value in response.getheaders():
            name = name.lower()
            found[name] = f"{found[name]}, {value}" if name in found else value
        return Answer(response.status, found, content, time.monotonic() - started)

    def abort(self):
        """Ends the thread too, unless it still looks up a name."""
        sock = self.connection.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It has just ended by itself.
