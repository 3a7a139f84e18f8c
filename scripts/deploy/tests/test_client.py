import json
import socket
import threading
import time
import unittest

from deploy import client
from deploy.hooks import HookFailed, Hooks
from deploy.text import plain


def serve(answer: bytes, pause: float = 0.0) -> int:
    """The port of a server that sends `answer`, byte by byte with `pause` between them when there is one."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        connection, _ = listener.accept()
        connection.recv(65536)
        try:
            for part in [answer] if pause == 0 else [bytes([byte]) for byte in answer]:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass  # The client has given up.
        connection.close()
        listener.close()

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def response(status: str, body: bytes, more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


class Client(unittest.TestCase):
    def get(self, answer: bytes, **options):
        return client.request("GET", f"http://127.0.0.1:{serve(answer, options.pop('pause', 0))}/", **options)

    def test_the_deadline_holds_for_an_answer_that_drips(self):
        started = time.monotonic()
        with self.assertRaisesRegex(client.NoAnswer, "no complete answer within 0.3 s"):
            self.get(response("200 OK", b"{}"), pause=0.1, deadline=0.3)
        self.assertLess(time.monotonic() - started, 3)

    def test_no_name_and_no_listener_are_no_answer(self):
        with self.assertRaisesRegex(client.NoAnswer, "cannot be resolved|no complete answer"):
            client.request("GET", "http://nobody.invalid/", deadline=10)
        with self.assertRaisesRegex(client.NoAnswer, "connection refused"):
            client.request("GET", "http://127.0.0.1:9/")

    def test_an_answer_that_is_cut_off_or_no_http_is_no_answer(self):
        for answer in (response("200 OK", b"{}")[:-1], b"", b"SSH-2.0-x\x00\x1b[2J\r\n"):
            with self.assertRaises(client.NoAnswer) as caught:
                self.get(answer, deadline=5)
            self.assertTrue(str(caught.exception).isprintable())

    def test_redirects_are_not_followed(self):
        self.assertEqual(self.get(response("302 Found", b"", "Location: http://127.0.0.1:9/\r\n")).status, 302)

    def test_a_hostile_detail_reaches_a_hook_as_one_plain_line(self):
        detail = "a\u0000b\ud800\n\u001b[2J$(touch /x)" + "c" * 1000
        reason = self.get(response("500 Oops", json.dumps({"detail": detail}).encode())).why()
        self.assertTrue(reason.isprintable())
        self.assertLess(len(reason), 400)
        Hooks(weight="", rollback='test "$ROLLBACK_REASON" =', promote="", environment={}).roll_back(reason)

    def test_plain_text_stays_as_it_is(self):
        self.assertEqual(plain("Größe 5 %: ok"), "Größe 5 %: ok")

    def test_a_semicolon_at_the_end_of_a_hook_does_not_run_its_argument(self):
        Hooks(weight="true;", rollback="", promote="", environment={}).set_weight(5)
        with self.assertRaises(HookFailed):
            Hooks(weight="false;", rollback="", promote="", environment={}).set_weight(5)


if __name__ == "__main__":
    unittest.main()
