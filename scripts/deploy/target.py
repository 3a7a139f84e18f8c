"""One side of a comparison: an address, the requests that probe it, and what its health says."""

import itertools
import uuid
from dataclasses import dataclass, field

from deploy import client
from deploy.samples import Sample

PUBLISH = "publish"
"""In the list of paths: POST /v1/messages instead of a read."""
PROBE_EVENT = "deploy.probe"


class NoDetails(Exception):
    """/health/detailed answered otherwise than with the details."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


@dataclass
class Target:
    name: str
    base_url: str
    paths: list
    headers: dict = field(default_factory=dict)
    health_key: str = ""
    deadline: float = 5.0
    version: str = ""
    """The version that it has to report, when one is expected."""

    def __post_init__(self):
        self._turns = itertools.cycle(self.paths)

    def probe(self) -> Sample:
        """One request, of the kind whose turn it is."""
        return self.ask(next(self._turns))

    def ask(self, path: str) -> Sample:
        try:
            answer = self._publish() if path == PUBLISH else self._get(path)
        except client.NoAnswer as error:
            return Sample(self.deadline, f"{path}: {error}")
        return Sample(answer.seconds, self._fault(path, answer))

    def _get(self, path: str) -> client.Answer:
        return client.request("GET", self.base_url + path, headers=self.headers, deadline=self.deadline)

    def _publish(self) -> client.Answer:
        return client.request(
            "POST",
            f"{self.base_url}/v1/messages",
            headers={**self.headers, "Idempotency-Key": f"probe-{uuid.uuid4()}"},
            body={"event_type": PROBE_EVENT, "payload": {"from": "deploy"}},
            deadline=self.deadline,
        )

    def _fault(self, path: str, answer: client.Answer) -> str:
        """Why it is not what Relaypost answers when all is well; empty when it is."""
        expected = 201 if path == PUBLISH else 200
        if answer.status != expected:
            return f"{path}: {answer.why()}"
        body = answer.json()
        # Another service, or a proxy's own page, may answer 200 to everything.
        if not isinstance(body, dict):
            return f"{path}: the answer is no JSON object"
        if path == "/health/ready" and body.get("status") != "ready":
            return f"{path}: the status is {body.get('status')!r}"
        return ""

    def readiness(self) -> dict:
        """The checks that readiness names, each ok, degraded or failed. Raises NoAnswer."""
        body = self._get("/health/ready").json()
        checks = body.get("checks") if isinstance(body, dict) else None
        return {name: state_of(check) for name, check in checks.items()} if isinstance(checks, dict) else {}

    def details(self) -> dict:
        """GET /health/detailed; empty without HEALTH_KEY. Raises NoAnswer, or NoDetails when it is refused or not there."""
        if not self.health_key:
            return {}
        headers = {"X-Health-Key": self.health_key}
        answer = client.request("GET", f"{self.base_url}/health/detailed", headers=headers, deadline=self.deadline)
        body = answer.json()
        if answer.status != 200 or not isinstance(body, dict):
            raise NoDetails(answer.status, f"/health/detailed {answer.why()}")
        return body


def state_of(check) -> str:
    """A check is a word, or an object with the word as `status`."""
    return str(check.get("status")) if isinstance(check, dict) else str(check)
