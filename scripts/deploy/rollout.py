"""Traffic to the canary in steps, watched after each; rolled back without anybody's help when it is worse.

WEIGHT_CMD, PROMOTE_CMD and ROLLBACK_CMD move the traffic. docs/promotion.md names every setting.
"""

import errno
import hashlib
import socket
import sys

from deploy import options
from deploy.comparison import guarded, read_hooks, read_watch, say
from deploy.judge import GOOD, Kind, Verdict
from deploy.options import BadOption


def read_weights() -> list:
    words = options.words("STEPS", "5 25 50 100")
    weights = [int(word) for word in words if word.isdecimal()]
    rising = all(before < after for before, after in zip([0, *weights], weights, strict=False))
    if len(weights) != len(words) or not rising or weights[-1:] != [100]:
        raise BadOption(f"STEPS: expected rising weights in per cent that end with 100, got '{' '.join(words)}'")
    return weights


def roll_out(watch, hooks, weights, step_seconds: float) -> Verdict:
    """The verdict of the step that was not good, or GOOD after the promotion. Raises HookFailed."""
    for weight in weights:
        say(f"canary at {weight} %")
        hooks.set_weight(weight)
        verdict = watch.windows(step_seconds)
        if verdict.kind is not Kind.GOOD:
            say(f"canary at {weight} %: {verdict.kind.value}")
            return verdict
    hooks.promote_canary()
    say("promoted")
    return GOOD


def hold_alone(stable_url: str) -> socket.socket:
    """One rollout for each STABLE_URL in this network namespace; two would set each other's weights. Raises BadOption.

    The lock is the name of a socket, which is free again as soon as the process has ended, whichever way. It is in no folder,
    because containers of the image share none. Those with a network of their own do not see each other. A caller keeps the
    socket until the end.
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Other systems have no such names, and no lock here.
    if sys.platform != "linux":
        return lock
    name = hashlib.sha256(stable_url.encode()).hexdigest()
    try:
        # The NUL makes it a name of Linux's abstract namespace.
        lock.bind(f"\0relaypost-rollout-{name}")
    except OSError as error:
        lock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise BadOption(
            f"STABLE_URL: another rollout of {stable_url} is under way on this machine; wait for its end, or stop it"
        ) from None
    return lock


def main() -> int:
    watch = read_watch(baseline_needed=True)
    weight = options.required(
        "WEIGHT_CMD", "the command that sets the canary's share of the traffic, called with the per cent"
    )
    options.required("ROLLBACK_CMD", "the command that takes all traffic from the canary")
    weights = read_weights()
    step_seconds = 60 * options.number("STEP_MINUTES", 5, 0.001, 1440)
    hooks = read_hooks(watch, weight=weight, promote=options.text("PROMOTE_CMD"))
    with hold_alone(watch.sides["baseline"].base_url):
        return guarded(watch, hooks, lambda: roll_out(watch, hooks, weights, step_seconds))
