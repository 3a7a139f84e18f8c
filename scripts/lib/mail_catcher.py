#!/usr/bin/env python3
"""Takes every mail over SMTP, delivers none, and shows them to people and to programs.

    mail_catcher.py SMTP_PORT WEB_PORT FOLDER

Each mail is a file FOLDER/ID.eml, and the newest MAX_MAILS are kept. The page is at http://127.0.0.1:WEB_PORT/. Programs
use the part of Mailpit's API that is named in `Web`, so that the same check works with the Mailpit of compose.dev.yml.
"""

import email.policy
import html
import itertools
import json
import os
import re
import sys
import time
from email.parser import BytesParser
from email.utils import getaddresses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller

MAX_MAILS = 1000
MAX_BYTES = 32 * 1024 * 1024
HOST = "127.0.0.1"


class Mailbox:
    """The mails as files in one folder. A file that appears is complete."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.numbers = itertools.count()

    def add(self, content: bytes) -> None:
        name = f"{time.time_ns():020d}-{next(self.numbers)}"
        unfinished = self.folder / f"{name}.part"
        unfinished.write_bytes(content)
        unfinished.rename(self.folder / f"{name}.eml")
        for old in self.ids()[MAX_MAILS:]:
            self.remove(old)

    def ids(self) -> list:
        """Newest first."""
        return sorted((path.stem for path in self.folder.glob("*.eml")), reverse=True)

    def raw(self, mail_id: str):
        """The bytes of a mail, or None."""
        if not re.fullmatch(r"[0-9]+-[0-9]+", mail_id):
            return None
        try:
            return (self.folder / f"{mail_id}.eml").read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, mail_id: str) -> None:
        if re.fullmatch(r"[0-9]+-[0-9]+", mail_id):
            (self.folder / f"{mail_id}.eml").unlink(missing_ok=True)

    def summary(self, mail_id: str):
        """The part of an entry in Mailpit's list that is of use here."""
        raw = self.raw(mail_id)
        if raw is None:
            return None
        headers = BytesParser(policy=email.policy.compat32).parsebytes(raw, headersonly=True)

        def addresses(name):
            found = getaddresses([str(value) for value in headers.get_all(name, [])])
            return [{"Name": label, "Address": address} for label, address in found]

        created = time.gmtime(int(mail_id.split("-")[0]) // 1_000_000_000)
        return {
            "ID": mail_id,
            "From": (addresses("From") or [None])[0],
            "To": addresses("To"),
            "Cc": addresses("Cc"),
            "Subject": str(headers.get("Subject", "")),
            "Created": time.strftime("%Y-%m-%dT%H:%M:%SZ", created),
            "Size": len(raw),
        }


class Smtp:
    """aiosmtpd's handler."""

    def __init__(self, mailbox: Mailbox):
        self.mailbox = mailbox

    async def handle_DATA(self, _server, _session, envelope):
        self.mailbox.add(envelope.content)
        return "250 2.0.0 caught"


class Web(BaseHTTPRequestHandler):
    """GET /, /api/v1/messages, /api/v1/message/ID/raw, and DELETE /api/v1/messages with {"IDs": […]}."""

    mailbox: Mailbox

    def do_GET(self):
        url = urlsplit(self.path)
        raw = re.fullmatch(r"/api/v1/message/([0-9-]+)/raw", url.path)
        if url.path == "/":
            self.answer(200, "text/html; charset=utf-8", self.page().encode())
        elif url.path == "/api/v1/messages":
            self.list(parse_qs(url.query))
        elif raw and (content := self.mailbox.raw(raw.group(1))) is not None:
            # As plain text: a mail's HTML may come from anybody and is never run here.
            self.answer(200, "text/plain; charset=utf-8", content)
        else:
            self.answer(404, "text/plain", b"not found\n")

    def do_DELETE(self):
        length = int(self.headers.get("Content-Length") or 0)
        try:
            ids = json.loads(self.rfile.read(length))["IDs"]
        except (ValueError, KeyError, TypeError):
            ids = None
        # Without IDs Mailpit removes everything; here that has to be said.
        if urlsplit(self.path).path != "/api/v1/messages" or not isinstance(ids, list):
            self.answer(400, "text/plain", b'expected {"IDs": ["..."]}\n')
            return
        for mail_id in ids:
            self.mailbox.remove(str(mail_id))
        self.answer(200, "text/plain", b"ok")

    def list(self, query):
        limit = query.get("limit", ["50"])[0]
        if not limit.isdecimal():
            self.answer(400, "text/plain", b"limit: expected a number\n")
            return
        ids = self.mailbox.ids()
        messages = [self.mailbox.summary(mail_id) for mail_id in ids[: int(limit)]]
        body = {"total": len(ids), "messages": [mail for mail in messages if mail]}
        self.answer(200, "application/json", json.dumps(body).encode())

    def page(self) -> str:
        rows = []
        for mail in filter(None, map(self.mailbox.summary, self.mailbox.ids())):
            to = ", ".join(address["Address"] for address in mail["To"])
            cells = [mail["Created"], to, mail["Subject"]]
            link = f'<a href="/api/v1/message/{mail["ID"]}/raw">view</a>'
            rows.append("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + f"<td>{link}</td></tr>")
        return (
            "<!doctype html><meta charset=utf-8><title>Caught mail</title><h1>Caught mail</h1>"
            f"<p>{len(rows)} mails, newest first. Reload for new ones.</p><table border=1 cellpadding=6>"
            "<tr><th>Received<th>To<th>Subject<th></tr>" + "".join(rows) + "</table>"
        )

    def answer(self, status, content_type, body):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", "default-src 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        """Nothing: a page that is looked at is no event."""


def main() -> None:
    if len(sys.argv) != 4 or not (sys.argv[1].isdecimal() and sys.argv[2].isdecimal()):
        sys.exit(__doc__)
    os.umask(0o077)
    mailbox = Mailbox(Path(sys.argv[3]))
    smtp = Controller(Smtp(mailbox), hostname=HOST, port=int(sys.argv[1]), data_size_limit=MAX_BYTES)
    smtp.start()
    Web.mailbox = mailbox
    print(f"listening on http://{HOST}:{sys.argv[2]}", flush=True)
    ThreadingHTTPServer((HOST, int(sys.argv[2])), Web).serve_forever()


if __name__ == "__main__":
    main()
