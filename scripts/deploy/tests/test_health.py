import unittest

from deploy.client import NoAnswer
from deploy.health import HealthWatch
from deploy.judge import Kind
from deploy.target import NoDetails


class FakeProcess:
    """`details` is what it answers, or an exception."""

    def __init__(self, checks=None, details=None, version=""):
        self.checks = checks or {"database": "ok", "redis": "ok"}
        self.found = details if details is not None else {}
        self.version = version
        self.base_url = "http://fake"

    def readiness(self):
        return self.checks

    def details(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def details(age=1.0, database="ok", version="0.1.0"):
    return {
        "version": version,
        "components": {"database": {"status": database, "latency_ms": 1.5}},
        "lanes": {"webhooks": {"backlog": 3, "due_now": 1, "oldest_due_age_s": age}, "emails": {"oldest_due_age_s": 0}},
    }


class Health(unittest.TestCase):
    def kind(self, baseline, canary):
        return HealthWatch(baseline, canary, due_age_limit=300).first_look().kind

    def test_a_part_that_is_worse_on_the_canary_is_a_breach(self):
        degraded = FakeProcess(checks={"database": "ok", "redis": "degraded"})
        self.assertEqual(self.kind(FakeProcess(), degraded), Kind.BREACH)
        self.assertEqual(self.kind(degraded, degraded), Kind.GOOD)
        self.assertEqual(self.kind(None, degraded), Kind.BREACH)
        failed = FakeProcess(details=details(database="failed"))
        self.assertEqual(self.kind(FakeProcess(details=details()), failed), Kind.BREACH)

    def test_an_unknown_state_is_not_good(self):
        self.assertEqual(self.kind(FakeProcess(), FakeProcess(checks={"database": "perhaps"})), Kind.BREACH)

    def test_due_work_that_no_longer_goes_out_is_a_breach(self):
        self.assertEqual(self.kind(None, FakeProcess(details=details(age=299))), Kind.GOOD)
        self.assertEqual(self.kind(None, FakeProcess(details=details(age=301))), Kind.BREACH)

    def test_another_version_than_the_expected_one_is_a_breach(self):
        self.assertEqual(self.kind(None, FakeProcess(details=details(), version="0.1.0")), Kind.GOOD)
        self.assertEqual(self.kind(None, FakeProcess(details=details(), version="0.2.0")), Kind.BREACH)

    def test_details_that_the_canary_refuses_are_a_breach(self):
        refused, absent = NoDetails(401, "answered 401"), NoDetails(404, "answered 404")
        self.assertEqual(self.kind(FakeProcess(details=details()), FakeProcess(details=refused)), Kind.BREACH)
        self.assertEqual(self.kind(FakeProcess(details=refused), FakeProcess(details=refused)), Kind.BREACH)
        self.assertEqual(self.kind(FakeProcess(details=details()), FakeProcess(details=absent)), Kind.BREACH)

    def test_two_versions_without_details_are_compared_by_readiness_alone(self):
        absent = NoDetails(404, "answered 404")
        self.assertEqual(self.kind(FakeProcess(details=absent), FakeProcess(details=absent)), Kind.GOOD)

    def test_no_answer_is_not_good(self):
        self.assertEqual(self.kind(FakeProcess(), FakeProcess(details=NoAnswer("hung"))), Kind.BREACH)

    def test_only_what_is_worse_in_two_looks_in_a_row_is_a_breach(self):
        canary = FakeProcess()
        watch = HealthWatch(FakeProcess(), canary, due_age_limit=300)
        seen = []
        for database, redis in (("failed", "ok"), ("ok", "ok"), ("failed", "ok"), ("ok", "failed"), ("ok", "failed")):
            canary.checks = {"database": database, "redis": redis}
            seen.append(watch.look().kind)
        self.assertEqual(seen, [Kind.GOOD] * 4 + [Kind.BREACH])


if __name__ == "__main__":
    unittest.main()
