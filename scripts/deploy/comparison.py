"""Rollout and monitor share their settings, their exit codes, and the way to roll back."""

import contextlib
import signal
import time
import traceback

from deploy import options
from deploy.health import HealthWatch
from deploy.hooks import HookFailed, Hooks
from deploy.judge import Kind, Limits
from deploy.options import BadOption
from deploy.target import PUBLISH, Target
from deploy.text import plain
from deploy.watch import BadBaseline, Clock, Threads, Watch

EXIT_GOOD = 0
EXIT_ROLLED_BACK = 1
EXIT_USAGE = 2
EXIT_HELD = 3
"""The baseline cannot be judged while the canary is well: nothing was changed, a person decides."""
EXIT_ROLLBACK_FAILED = 4

READS = "/health/ready /v1/messages?limit=1 /v1/deliveries?limit=1 /v1/event-types?limit=1 /v1/stats"
ROLLBACK_TRIES = 3
PAUSE_GROWTH = 5
"""Each pause between two tries is this many times the one before."""


class Interrupted(Exception):
    """A signal asks this program to stop."""


def say(text: str) -> None:
    # The terminal or the pipe may be gone; the rollback must go on.
    with contextlib.suppress(OSError):
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def read_target(name: str, variable: str, key: str) -> Target:
    headers = {}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    tenant = options.text("TENANT_ID")
    if tenant:
        headers["X-Tenant-Id"] = tenant
    paths = options.words("PROBE_PATHS", READS)
    for path in paths:
        if not path.startswith("/"):
            raise BadOption(f"PROBE_PATHS: expected paths that begin with /, got '{path}'")
    if options.flag("PROBE_PUBLISH"):
        paths.append(PUBLISH)
    return Target(
        name=name,
        base_url=options.base_url(variable, options.text(variable)),
        paths=paths,
        headers=headers,
        health_key=options.text("HEALTH_KEY"),
        deadline=options.number("PROBE_TIMEOUT_SECONDS", 5, 0.1, 30),
    )


def read_watch(baseline_needed: bool) -> Watch:
    """The settings, checked before anything is moved."""
    options.required("CANARY_URL", "the address of the new version, for example http://canary.internal:3000")
    if not options.text("PROBE_PATHS"):
        options.required(
            "API_KEY", "a key of a test tenant with the scope `read`; without one only probes of PROBE_PATHS are made"
        )
    if baseline_needed:
        options.required(
            "STABLE_URL", "the address of the version that is running, for example http://stable.internal:3000"
        )
    key = options.text("API_KEY")
    canary = read_target("canary", "CANARY_URL", key)
    canary.version = options.text("CANARY_VERSION")
    baseline = read_target("baseline", "STABLE_URL", key) if options.text("STABLE_URL") else None
    if baseline and baseline.base_url == canary.base_url:
        raise BadOption("CANARY_URL: the same address as STABLE_URL: there is nothing to compare")
    if canary.version and not canary.health_key:
        raise BadOption("CANARY_VERSION: needs HEALTH_KEY, because the version stands in /health/detailed")
    rate = options.number("PROBES_PER_SECOND", 5, 0.1, 50)
    window = options.number("WINDOW_SECONDS", 60, 0.5, 3600)
    limits = read_limits(rate, window)
    health = HealthWatch(baseline, canary, options.number("DUE_AGE_LIMIT_SECONDS", 300, 1, 1e6))
    return Watch(
        baseline,
        canary,
        limits,
        rate=rate,
        clock=Clock(),
        threads=Threads(rate, canary.deadline),
        health=health,
        say=say,
        latency_max_ms=options.number("LATENCY_MAX_MS", 1000, 1, 60000),
    )


def read_limits(rate: float, window: float) -> Limits:
    limits = Limits(
        threshold_percent=options.number("THRESHOLD", 0.5, 0.01, 100),
        planned=int(rate * window),
        latency_factor=options.number("LATENCY_FACTOR", 2, 1, 100),
        latency_slack_ms=options.number("LATENCY_SLACK_MS", 50, 0, 60000),
        baseline_percent=options.number("BASELINE_MAX_ERRORS", 5, 0, 50),
    )
    if limits.planned < limits.minimum:
        raise BadOption(
            f"PROBES_PER_SECOND: {rate:g} for WINDOW_SECONDS={window:g} are {limits.planned} probes, and "
            f"THRESHOLD={limits.threshold_percent:g} needs at least {limits.minimum}"
        )
    return limits


def read_hooks(watch: Watch, weight: str = "", promote: str = "") -> Hooks:
    baseline = watch.sides["baseline"]
    return Hooks(
        weight=weight,
        rollback=options.text("ROLLBACK_CMD"),
        promote=promote,
        environment={
            "STABLE_URL": baseline.base_url if baseline else "",
            "CANARY_URL": watch.sides["canary"].base_url,
        },
        timeout=options.number("HOOK_TIMEOUT_SECONDS", 120, 1, 3600),
        rollback_pause=options.number("ROLLBACK_PAUSE_SECONDS", 2, 0, 600),
    )


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handle_signals(handler) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def interrupt(number, _frame):
    # Only the first one counts: nobody interrupts the rollback.
    handle_signals(signal.SIG_IGN)
    raise Interrupted(f"stopped by {signal.Signals(number).name}")


def roll_back(hooks: Hooks, reason: str) -> int:
    """Calls the hook, and again when it fails. The exit code says whether it worked."""
    reason = plain(reason)
    handle_signals(signal.SIG_IGN)
    say(f"rolling back: {reason}")
    if not hooks.rollback:
        say("there is no ROLLBACK_CMD: roll back by hand")
        return EXIT_ROLLBACK_FAILED
    for tried in range(ROLLBACK_TRIES):
        if tried > 0:
            pause = hooks.rollback_pause * PAUSE_GROWTH ** (tried - 1)
            say(f"trying again in {pause:g} s")
            time.sleep(pause)
        try:
            hooks.roll_back(reason)
        except (HookFailed, OSError) as error:
            say(str(error))
        else:
            say("rolled back")
            return EXIT_ROLLED_BACK
    say(f"ROLLBACK_CMD failed {ROLLBACK_TRIES} times: the canary may still have traffic; act by hand")
    return EXIT_ROLLBACK_FAILED


def guarded(watch: Watch, hooks: Hooks, steps) -> int:
    """Runs `steps`, which returns the first verdict that is not good or GOOD. Whatever else ends it rolls back."""
    try:
        try:
            handle_signals(interrupt)
            code, reason = outcome(watch, steps)
            handle_signals(signal.SIG_IGN)
        except Interrupted as error:
            # The first signal has made all further ones ignored.
            code, reason = None, str(error)
        return roll_back(hooks, reason) if code is None else code
    finally:
        watch.threads.close()


def outcome(watch: Watch, steps) -> tuple:
    """The exit code, or None and the reason to roll back. A signal raises Interrupted at any place in here."""
    try:
        verdict = watch.first_look()
        if verdict.kind is Kind.GOOD:
            verdict = steps()
    except Interrupted:
        raise
    except BadBaseline as error:
        say(f"not started: {error}")
        return EXIT_USAGE, ""
    except HookFailed as error:
        return None, str(error)
    except Exception as error:
        # A fault of this program must not leave a canary unwatched.
        with contextlib.suppress(OSError):
            traceback.print_exc()
        return None, f"the watch failed: {error}"
    if verdict.kind is Kind.GOOD:
        return EXIT_GOOD, ""
    if verdict.kind is Kind.HOLD:
        say(f"cannot judge: {verdict.reason}; the canary is well, so nothing is rolled back: decide by hand")
        return EXIT_HELD, ""
    return None, f"{verdict.kind.value}: {verdict.reason}"
