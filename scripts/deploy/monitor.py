"""Watches a version after its promotion, and calls ROLLBACK_CMD when it is worse than the baseline.

Without STABLE_URL there is no baseline any more: then no errors and LATENCY_MAX_MS are the measure.
"""

from deploy import options
from deploy.comparison import guarded, read_hooks, read_watch, say
from deploy.judge import GOOD, Kind


def watch_for(watch, minutes: float):
    verdict = watch.windows(60 * minutes)
    if verdict.kind is not Kind.GOOD:
        return verdict
    say(f"good for {minutes:g} minutes")
    return GOOD


def main() -> int:
    watch = read_watch(baseline_needed=False)
    minutes = options.number("MINUTES", 30, 0.001, 10080)
    hooks = read_hooks(watch)
    if watch.sides["baseline"] is None:
        say(f"no STABLE_URL: the measure is no errors, and a p95 of {watch.latency_max_ms:g} ms")
    if not hooks.rollback:
        say("no ROLLBACK_CMD: a breach is only reported")
    return guarded(watch, hooks, lambda: watch_for(watch, minutes))
