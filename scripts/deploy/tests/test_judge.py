import unittest

from deploy import judge
from deploy.judge import Kind, Limits
from deploy.samples import Sample, Samples

LIMITS = Limits(threshold_percent=0.5, planned=1000)


def samples(good: int, failed: int = 0, seconds: float = 0.01) -> Samples:
    made = Samples()
    for _ in range(good):
        made.add(Sample(seconds))
    for _ in range(failed):
        made.add(Sample(0, "answered 503"))
    return made


class Final(unittest.TestCase):
    def kind(self, baseline, canary, limits=LIMITS):
        return judge.final(baseline, canary, limits).kind

    def test_equal_sides_are_good(self):
        self.assertEqual(self.kind(samples(1000), samples(1000)), Kind.GOOD)

    def test_errors_at_the_threshold_are_good_and_above_it_a_breach(self):
        self.assertEqual(self.kind(samples(1000), samples(995, 5)), Kind.GOOD)
        self.assertEqual(self.kind(samples(1000), samples(994, 6)), Kind.BREACH)

    def test_the_threshold_counts_from_the_baseline(self):
        self.assertEqual(self.kind(samples(980, 20), samples(976, 24)), Kind.GOOD)
        self.assertEqual(self.kind(samples(980, 20), samples(974, 26)), Kind.BREACH)

    def test_too_few_samples_are_never_good(self):
        self.assertEqual(self.kind(samples(1000), samples(199)), Kind.UNKNOWN)
        self.assertEqual(self.kind(samples(1000), samples(0)), Kind.UNKNOWN)
        self.assertEqual(self.kind(samples(199), samples(1000)), Kind.HOLD)
        self.assertEqual(self.kind(samples(0), samples(1000)), Kind.HOLD)

    def test_a_failing_baseline_does_not_excuse_a_failing_canary(self):
        self.assertEqual(self.kind(samples(0, 1000), samples(0, 1000)), Kind.UNKNOWN)
        self.assertEqual(self.kind(samples(0, 1000), samples(1000)), Kind.HOLD)

    def test_latency_may_double_or_grow_by_the_slack(self):
        self.assertEqual(self.kind(samples(1000), samples(1000, seconds=0.06)), Kind.GOOD)
        self.assertEqual(self.kind(samples(1000), samples(1000, seconds=0.061)), Kind.BREACH)
        self.assertEqual(self.kind(samples(1000, seconds=0.2), samples(1000, seconds=0.4)), Kind.GOOD)
        self.assertEqual(self.kind(samples(1000, seconds=0.2), samples(1000, seconds=0.41)), Kind.BREACH)

    def test_no_good_answer_at_all_is_never_good(self):
        loose = Limits(threshold_percent=100, planned=1000)
        self.assertEqual(self.kind(samples(1000), samples(0, 1000), loose), Kind.BREACH)


class Early(unittest.TestCase):
    def test_a_breach_shows_as_soon_as_nothing_can_undo_it(self):
        self.assertEqual(judge.early(samples(10), samples(0, 5), LIMITS).kind, Kind.GOOD)
        self.assertEqual(judge.early(samples(10), samples(0, 6), LIMITS).kind, Kind.BREACH)

    def test_what_fails_on_both_sides_alike_is_no_early_breach(self):
        self.assertEqual(judge.early(samples(0, 100), samples(0, 100), LIMITS).kind, Kind.GOOD)


class Alone(unittest.TestCase):
    def test_without_a_baseline_errors_and_latency_have_fixed_limits(self):
        self.assertEqual(judge.alone(samples(1000), LIMITS, 1000).kind, Kind.GOOD)
        self.assertEqual(judge.alone(samples(994, 6), LIMITS, 1000).kind, Kind.BREACH)
        self.assertEqual(judge.alone(samples(1000, seconds=1.1), LIMITS, 1000).kind, Kind.BREACH)
        self.assertEqual(judge.alone(samples(10), LIMITS, 1000).kind, Kind.UNKNOWN)
        self.assertEqual(judge.alone(samples(0, 1000), Limits(100, 1000), 1000).kind, Kind.BREACH)


if __name__ == "__main__":
    unittest.main()
