import io
import json
import unittest

from deploy import read_checks
from deploy.client import Answer
from deploy.context import Context
from deploy.service import Service
from deploy.table import FAILED, OK, SKIPPED, CheckFailed, Table

NO_TENANT = {"detail": "X-Tenant-Id: missing; a platform key needs it"}


class FakeService(Service):
    """Answers everything alike, except the document."""

    def __init__(self, status: int, body: dict):
        super().__init__("http://fake")
        self.answer = Answer(status, {}, json.dumps(body).encode(), 0.01)

    def raw(self, _method, path, body=None, headers=None):
        if path == "/openapi.json":
            return Answer(200, {}, json.dumps({"paths": {"/v1/messages": {}}}).encode(), 0.01)
        return self.answer


class ReadChecks(unittest.TestCase):
    def ready(self, status: int, body: dict):
        checks = {}
        try:
            return read_checks.readiness(FakeService(status, body), checks), checks
        except CheckFailed as error:
            return str(error), checks

    def test_what_is_not_ready_is_said_in_words_with_its_reason(self):
        body = {
            "status": "not_ready",
            "checks": {"database": "failed", "redis": {"status": "degraded"}, "migrations": "ok"},
            "reasons": {"database": "the disk is full", "process": "it was told to stop"},
        }
        said, checks = self.ready(503, body)
        self.assertEqual(
            said, "status not_ready; database failed (the disk is full); redis degraded; process: it was told to stop"
        )
        with self.assertRaisesRegex(CheckFailed, r"readiness says: failed \(the disk is full\)$"):
            read_checks.part(checks, "database")
        self.assertEqual(read_checks.part(checks, "migrations"), "")

    def test_a_degraded_part_of_a_ready_process_fails_with_its_reason(self):
        body = {"status": "ready", "checks": {"redis": "degraded"}, "reasons": {"redis": "it does not answer"}}
        said, checks = self.ready(200, body)
        self.assertEqual(said, "")
        with self.assertRaisesRegex(CheckFailed, "degraded .it does not answer."):
            read_checks.part(checks, "redis")

    def test_an_answer_of_another_form_fails_and_does_not_crash(self):
        self.assertEqual(self.ready(200, {"status": "odd", "checks": [], "reasons": "?"})[0], "status odd")

    def test_a_platform_key_without_a_tenant_is_asked_for_the_tenant_once(self):
        table = Table(out=io.StringIO())
        context = Context(table, "http://fake")
        context.api_key = "rp_platform"
        context.nobody = FakeService(200, {})
        context.reader = lambda: FakeService(400, NO_TENANT)
        read_checks.core(context)
        results = [row.result for row in table.rows]
        self.assertEqual(results, [OK, FAILED] + [SKIPPED] * len(read_checks.LISTS))
        self.assertIn("TENANT_ID", table.rows[1].detail)


if __name__ == "__main__":
    unittest.main()
