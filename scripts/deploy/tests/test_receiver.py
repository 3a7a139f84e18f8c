import base64
import hashlib
import hmac
import time
import unittest

from deploy import client
from deploy.receiver import Receiver, verify

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
OTHER = "whsec_" + base64.b64encode(b"fedcba9876543210fedcba9876543210").decode()
BODY = b'{"a": 1}'


def headers(secret=SECRET, age=0, body=BODY):
    timestamp = str(int(time.time()) - age)
    key = base64.b64decode(secret[len("whsec_") :])
    digest = hmac.new(key, b"msg_1." + timestamp.encode() + b"." + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {"webhook-id": "msg_1", "webhook-timestamp": timestamp, "webhook-signature": signature}


class Verify(unittest.TestCase):
    def test_only_the_right_signature_is_good(self):
        self.assertEqual(verify(SECRET, headers(), BODY), "")
        self.assertNotEqual(verify(SECRET, headers(secret=OTHER), BODY), "")
        self.assertNotEqual(verify(SECRET, headers(body=b"{}"), BODY), "")
        self.assertNotEqual(verify(SECRET, {}, BODY), "")

    def test_one_of_several_signatures_is_enough(self):
        both = headers()
        both["webhook-signature"] = headers(secret=OTHER)["webhook-signature"] + " " + both["webhook-signature"]
        self.assertEqual(verify(SECRET, both, BODY), "")

    def test_an_old_timestamp_is_refused(self):
        self.assertNotEqual(verify(SECRET, headers(age=301), BODY), "")


class Receive(unittest.TestCase):
    def test_only_its_own_path_counts_and_failures_are_answered_as_told(self):
        receiver = Receiver("127.0.0.1", 0, "/secret")
        self.addCleanup(receiver.close)
        receiver.secret = SECRET
        receiver.failures = 1
        url = f"http://127.0.0.1:{receiver.port}"
        for path, status in (("/other", 404), ("/secret", 500), ("/secret", 204)):
            answer = client.request("POST", url + path, headers=headers(), body=BODY)
            self.assertEqual(answer.status, status)
        self.assertEqual([receiver.next(1).status, receiver.next(1).status], [500, 204])
        self.assertIsNone(receiver.next(0))


if __name__ == "__main__":
    unittest.main()
