import os
import signal
import sys
import unittest
from unittest import mock

from deploy import comparison, rollout
from deploy.comparison import handle_signals
from deploy.hooks import HookFailed
from deploy.judge import Kind, Limits, Verdict
from deploy.monitor import watch_for
from deploy.options import BadOption
from deploy.samples import Sample
from deploy.tests.fakes import FakeClock, FakeHealth, FakeHooks, FakeTarget, Inline, good
from deploy.watch import BadBaseline, Watch

WEIGHTS = [5, 25, 50, 100]


def broken_from(begin: float):
    return lambda _count, time: Sample(0, "answered 503") if time >= begin else Sample(0.01)


def make_watch(canary, baseline=None):
    clock = FakeClock()
    limits = Limits(threshold_percent=0.5, planned=300)
    sides = [FakeTarget(clock, answer) for answer in (baseline or good(), canary)]
    return Watch(*sides, limits, rate=5, clock=clock, threads=Inline(), health=FakeHealth(), say=lambda _text: None)


@mock.patch("deploy.comparison.say", lambda _text: None)
@mock.patch("deploy.rollout.say", lambda _text: None)
@mock.patch("deploy.monitor.say", lambda _text: None)
class Rollout(unittest.TestCase):
    def setUp(self):
        for number in comparison.SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def roll_out(self, watch, hooks):
        return comparison.guarded(watch, hooks, lambda: rollout.roll_out(watch, hooks, WEIGHTS, 300))

    def test_a_good_canary_goes_through_all_steps_and_is_promoted(self):
        watch, hooks = make_watch(good()), FakeHooks(HookFailed)
        self.assertEqual(self.roll_out(watch, hooks), comparison.EXIT_GOOD)
        self.assertEqual(hooks.calls, ["5", "25", "50", "100", "promote"])
        self.assertAlmostEqual(watch.clock.now(), 4 * 300)

    def test_a_canary_that_breaks_in_a_step_is_rolled_back_within_seconds(self):
        watch, hooks = make_watch(broken_from(400)), FakeHooks(HookFailed)
        self.assertEqual(self.roll_out(watch, hooks), comparison.EXIT_ROLLED_BACK)
        self.assertEqual(hooks.calls, ["5", "25", "rollback"])
        self.assertLess(watch.clock.now(), 402)

    def test_a_canary_that_fails_at_once_never_gets_traffic(self):
        hooks = FakeHooks(HookFailed)
        self.assertEqual(self.roll_out(make_watch(broken_from(0)), hooks), comparison.EXIT_ROLLED_BACK)
        self.assertEqual(hooks.calls, ["rollback"])

    def test_a_slow_canary_is_rolled_back(self):
        def slow(_count, time):
            return Sample(0.3 if time > 10 else 0.01)

        hooks = FakeHooks(HookFailed)
        self.assertEqual(self.roll_out(make_watch(slow), hooks), comparison.EXIT_ROLLED_BACK)
        self.assertEqual(hooks.calls, ["5", "rollback"])

    def test_a_baseline_that_fails_alone_holds_the_rollout(self):
        hooks = FakeHooks(HookFailed)
        watch = make_watch(good(), baseline=broken_from(400))
        self.assertEqual(self.roll_out(watch, hooks), comparison.EXIT_HELD)
        self.assertEqual(hooks.calls, ["5", "25"])

    def test_both_failing_is_not_good(self):
        hooks = FakeHooks(HookFailed)
        watch = make_watch(broken_from(400), baseline=broken_from(400))
        self.assertEqual(self.roll_out(watch, hooks), comparison.EXIT_ROLLED_BACK)
        self.assertEqual(hooks.calls, ["5", "25", "rollback"])

    def test_nothing_is_moved_while_the_baseline_fails_before_the_start(self):
        hooks = FakeHooks(HookFailed)
        watch = make_watch(good(), baseline=broken_from(0))
        self.assertEqual(self.roll_out(watch, hooks), comparison.EXIT_USAGE)
        self.assertEqual(hooks.calls, [])

    def test_a_failed_hook_rolls_back(self):
        for failing in ("25", "promote"):
            hooks = FakeHooks(HookFailed, failing=[failing])
            self.assertEqual(self.roll_out(make_watch(good()), hooks), comparison.EXIT_ROLLED_BACK)
            self.assertEqual(hooks.calls[-2:], [failing, "rollback"])

    def test_a_failed_rollback_is_tried_again_and_told_apart(self):
        hooks = FakeHooks(HookFailed, failing=["rollback"])
        with mock.patch("time.sleep") as sleep:
            self.assertEqual(self.roll_out(make_watch(broken_from(100)), hooks), comparison.EXIT_ROLLBACK_FAILED)
        self.assertEqual(hooks.calls, ["5", "rollback", "rollback", "rollback"])
        # What refuses the first try, such as a gateway that restarts, gets time.
        self.assertEqual([call.args[0] for call in sleep.call_args_list], [2, 10])

    def test_a_fault_of_the_watch_rolls_back(self):
        hooks = FakeHooks(HookFailed)
        watch = make_watch(good())
        watch.windows = mock.Mock(side_effect=RuntimeError("a bug"))
        with mock.patch("traceback.print_exc"):
            self.assertEqual(self.roll_out(watch, hooks), comparison.EXIT_ROLLED_BACK)
        self.assertEqual(hooks.calls, ["5", "rollback"])

    def test_the_monitor_watches_for_its_whole_time(self):
        watch = make_watch(good())
        self.assertEqual(watch_for(watch, 30).kind, Kind.GOOD)
        self.assertAlmostEqual(watch.clock.now(), 1800)

    def test_the_monitor_sees_a_fault_in_its_last_minute(self):
        watch = make_watch(broken_from(1750))
        self.assertEqual(watch_for(watch, 30).kind, Kind.BREACH)
        self.assertLess(watch.clock.now(), 1752)

    def test_the_monitor_sees_one_error_in_a_hundred(self):
        def flaky(count, _time):
            return Sample(0, "answered 500") if count % 100 == 0 else Sample(0.01)

        self.assertEqual(watch_for(make_watch(flaky), 30).kind, Kind.BREACH)


class Signals(unittest.TestCase):
    """A signal counts at whichever line it arrives: it rolls back, or the rollback that has begun goes on."""

    def setUp(self):
        for number in comparison.SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def interrupted_at(self, line: int, kind) -> tuple:
        """The calls of the hooks when a signal comes at this line after the handlers were set, and whether it came."""
        lines = 0
        hooks = FakeHooks(HookFailed)
        handle_signals(signal.SIG_IGN)
        sent = False

        def trace(frame, event, _argument):
            nonlocal lines, sent
            if frame.f_code.co_filename != comparison.__file__:
                return None
            if event == "line" and not sent and (lines > 0 or signal.getsignal(signal.SIGTERM) is comparison.interrupt):
                lines += 1
                if lines == line:
                    sent = True
                    os.kill(os.getpid(), signal.SIGTERM)
            return trace

        def steps():
            if isinstance(kind, Exception):
                raise kind
            return Verdict(kind, "as the test says")

        with mock.patch("deploy.comparison.say"), mock.patch("traceback.print_exc"):
            sys.settrace(trace)
            try:
                comparison.guarded(make_watch(good()), hooks, steps)
            finally:
                sys.settrace(None)
        return hooks.calls, sent

    def test_a_rollback_that_is_due_happens_once_wherever_a_signal_arrives(self):
        for kind in (Kind.BREACH, HookFailed("a hook"), RuntimeError("a bug")):
            line, sent = 1, True
            while sent:
                with self.subTest(kind=kind, line=line):
                    calls, sent = self.interrupted_at(line, kind)
                    self.assertEqual(calls, ["rollback"])
                line += 1
            self.assertGreater(line, 15)

    def test_a_signal_before_the_end_of_a_good_watch_ends_without_an_exception(self):
        for kind in (Kind.GOOD, Kind.HOLD, BadBaseline("no answer")):
            line, sent = 1, True
            while sent:
                with self.subTest(kind=kind, line=line):
                    calls, sent = self.interrupted_at(line, kind)
                    self.assertIn(calls, ([], ["rollback"]))
                line += 1


class Alone(unittest.TestCase):
    def test_a_second_rollout_of_the_same_baseline_is_refused_until_the_first_has_ended(self):
        stable = f"http://stable-{os.getpid()}.test:3000"
        with rollout.hold_alone(stable):
            with self.assertRaisesRegex(BadOption, "STABLE_URL: another rollout"):
                rollout.hold_alone(stable)
            rollout.hold_alone(f"{stable}/other").close()
        rollout.hold_alone(stable).close()

    def test_a_refused_rollout_calls_no_hook(self):
        stable = f"http://127.0.0.1:9/{os.getpid()}"
        settings = {
            "STABLE_URL": stable,
            "CANARY_URL": "http://127.0.0.1:9/canary",
            "API_KEY": "key",
            "WEIGHT_CMD": "exit 9;",
            "ROLLBACK_CMD": "exit 9;",
        }
        with (
            rollout.hold_alone(stable),
            mock.patch.dict(os.environ, settings),
            mock.patch("deploy.hooks.Hooks._run") as run,
            self.assertRaises(BadOption),
        ):
            rollout.main()
        run.assert_not_called()


class WithoutTerminal(unittest.TestCase):
    def test_a_rollback_goes_on_when_nobody_reads_the_output(self):
        for number in comparison.SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        hooks = FakeHooks(HookFailed)
        with mock.patch("builtins.print", side_effect=BrokenPipeError):
            self.assertEqual(comparison.roll_back(hooks, "gone"), comparison.EXIT_ROLLED_BACK)
        self.assertEqual(hooks.calls, ["rollback"])


if __name__ == "__main__":
    unittest.main()
