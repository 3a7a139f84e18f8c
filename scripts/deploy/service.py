"""Relaypost's API for checks: an answer that is not the expected one is a failed check, with the reason in it."""

import time

from deploy import client
from deploy.table import CheckFailed


class Service:
    def __init__(self, base_url: str, key: str = "", tenant: str = ""):
        self.base_url = base_url
        self.headers = {}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        if tenant:
            self.headers["X-Tenant-Id"] = tenant

    def call(self, method: str, path: str, expected=(200,), body=None, headers=None) -> client.Answer:
        """Raises CheckFailed unless it answers with one of the expected statuses."""
        answer = self.raw(method, path, body, headers)
        if answer.status not in expected:
            raise CheckFailed(f"{method} {path} {answer.why()}")
        return answer

    def raw(self, method: str, path: str, body=None, headers=None) -> client.Answer:
        try:
            return client.request(method, self.base_url + path, headers={**self.headers, **(headers or {})}, body=body)
        except client.NoAnswer as error:
            raise CheckFailed(f"{method} {self.base_url}{path}: {error}") from None

    def get(self, path: str):
        return self.json(self.call("GET", path), path)

    def post(self, path: str, body=None, expected=(200, 201, 202), headers=None):
        return self.json(self.call("POST", path, expected, body, headers), path)

    @staticmethod
    def json(answer: client.Answer, path: str) -> dict:
        body = answer.json()
        if not isinstance(body, dict):
            raise CheckFailed(f"{path}: the answer is no JSON object")
        return body


def wait_until(seconds: float, function):
    """Calls `function` until its result is true and returns it; None when that takes longer."""
    end = time.monotonic() + seconds
    while True:
        value = function()
        if value:
            return value
        if time.monotonic() >= end:
            return None
        time.sleep(0.1)
