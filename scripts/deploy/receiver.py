"""A receiver of webhooks that preflight runs itself: it verifies each signature, and fails as often as a check asks for."""

import base64
import hashlib
import hmac
import queue
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

TOLERANCE_SECONDS = 300
MAX_BODY = 1024 * 1024


@dataclass(frozen=True)
class Receipt:
    webhook_id: str
    body: bytes
    fault: str
    """Why the signature is refused; empty when it is good."""
    status: int
    """The status of the answer."""


def verify(secret: str, headers, body: bytes) -> str:
    """Standard Webhooks, HMAC-SHA256. Returns why the signature is refused, or an empty text."""
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    webhook_id, timestamp, signatures = (headers.get(name, "") for name in names)
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return f"webhook-timestamp is '{timestamp}', more than {TOLERANCE_SECONDS} s from this machine's clock"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    if not any(hmac.compare_digest(expected, given) for given in signatures.split()):
        return "no signature in webhook-signature fits the endpoint's secret"
    return ""


class Receiver:
    """Listens on `host`. Only requests to its own secret path count."""

    def __init__(self, host: str, port: int, path: str):
        self.path = path
        self.secret = ""
        self.receipts = queue.Queue()
        self.failures = 0
        """How many of the next requests are answered with 500."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self):
                receiver.answer(self)

            def log_message(self, *_args):
                """Nothing: the table says what came."""

        self.server = ThreadingHTTPServer((host, port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request) -> None:
        length = request.headers.get("Content-Length", "0")
        # Others may reach this port too.
        if request.path != self.path or not length.isdecimal() or int(length) > MAX_BODY:
            request.send_error(404)
            return
        body = request.rfile.read(int(length))
        status = 500 if self.failures > 0 else 204
        self.failures = max(0, self.failures - 1)
        request.send_response(status)
        request.send_header("Content-Length", "0")
        request.end_headers()
        fault = verify(self.secret, request.headers, body)
        self.receipts.put(Receipt(request.headers.get("webhook-id", ""), body, fault, status))

    def next(self, seconds: float):
        """The next receipt, or None when none comes in this time."""
        try:
            return self.receipts.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
