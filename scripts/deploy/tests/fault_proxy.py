"""Stands before a healthy API and spoils its answers. Started by the drill.

    fault_proxy.py TARGET_PORT FAULT_FILE [tcp]

Prints its port. FAULT_FILE holds what it does, and may change while it runs:
    none           passes everything on
    error=20       answers 500 to one request in 20
    slow=0.3       waits for this many seconds first
    hang           answers nothing
    drip           sends one byte of its answer a second
    page           answers 200 with a web page
With `tcp` it passes bytes on, whatever they are:
    cut            ends all connections and takes no more
"""

import http.client
import itertools
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TARGET = int(sys.argv[1])
FAULT = Path(sys.argv[2])
NUMBERS = itertools.count(1)


def fault() -> tuple:
    name, _, value = FAULT.read_text(encoding="utf-8").strip().partition("=")
    return name, value


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name, value = fault()
        if name == "hang":
            time.sleep(3600)
        elif name == "slow":
            time.sleep(float(value))
        elif name == "drip":
            self.drip()
            self.close_connection = True
            return
        elif name == "error" and next(NUMBERS) % int(value) == 0:
            self.reply(500, "application/json", b"{}")
            return
        elif name == "page":
            self.reply(200, "text/html", b"<h1>Welcome</h1>")
            return
        self.pass_on()

    def drip(self):
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}":
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return  # The probe has given up.
            time.sleep(1)

    def pass_on(self):
        connection = http.client.HTTPConnection("127.0.0.1", TARGET, timeout=10)
        names = ("Authorization", "X-Tenant-Id", "X-Health-Key")
        headers = {name: self.headers[name] for name in names if name in self.headers}
        connection.request("GET", self.path, headers=headers)
        answer = connection.getresponse()
        self.reply(answer.status, answer.headers.get("Content-Type", ""), answer.read())
        connection.close()

    def reply(self, status, content_type, body):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        """Nothing."""


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def forward_bytes():
    """A relay of TCP, for a server that does not speak HTTP."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    opened = []
    threading.Thread(target=cut_when_told, args=(listener, opened), daemon=True).start()
    while True:
        try:
            inside, _ = listener.accept()
        except OSError:
            return  # It was cut.
        outside = socket.create_connection(("127.0.0.1", TARGET))
        opened.extend((inside, outside))
        for ends in ((inside, outside), (outside, inside)):
            threading.Thread(target=pump, args=ends, daemon=True).start()


def cut_when_told(listener, opened):
    while fault()[0] != "cut":
        time.sleep(0.02)
    for end in (listener, *opened):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


if __name__ == "__main__":
    if sys.argv[3:] == ["tcp"]:
        forward_bytes()
    else:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        print(server.server_address[1], flush=True)
        server.serve_forever()
