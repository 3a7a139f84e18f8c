"""Is the canary as good as the baseline? Pure: two sets of samples in, a verdict out.

Nothing that is unknown is ever good: too few samples, or a baseline that fails itself, are verdicts of their own.
"""

import enum
import math
from dataclasses import dataclass

from deploy.samples import Samples


class Kind(enum.Enum):
    GOOD = "good"
    BREACH = "breach"
    """The canary is worse: roll back."""
    UNKNOWN = "cannot judge"
    """Too little is known of the canary: roll back."""
    HOLD = "cannot judge the baseline"
    """The canary is well and the baseline is not: rolling back would send traffic to what fails. A person decides."""


@dataclass(frozen=True)
class Verdict:
    kind: Kind
    reason: str = ""


GOOD = Verdict(Kind.GOOD)


@dataclass(frozen=True)
class Limits:
    threshold_percent: float
    """How much higher the canary's error rate may be, in per cent of its probes."""
    planned: int
    """Probes of each side in one window."""
    latency_factor: float = 2.0
    latency_slack_ms: float = 50.0
    """The canary's p95 may be the baseline's times the factor, or the baseline's plus the slack, whichever is more."""
    baseline_percent: float = 5.0
    """A baseline with more errors is no measure."""

    @property
    def minimum(self) -> int:
        """Fewer samples cannot tell a rate of the threshold from none: one error alone would exceed it."""
        return max(30, math.ceil(100 / self.threshold_percent))

    def latency_limit_ms(self, baseline_ms: float) -> float:
        return max(baseline_ms * self.latency_factor, baseline_ms + self.latency_slack_ms)


def early(baseline: Samples, canary: Samples, limits: Limits) -> Verdict:
    """While the window runs: a breach that no number of good answers to come would undo, else good."""
    least = 100 * canary.failed() / limits.planned
    if least > baseline.error_percent() + limits.threshold_percent:
        return _error_breach(baseline, canary, limits)
    return GOOD


def final(baseline: Samples, canary: Samples, limits: Limits) -> Verdict:
    """At the end of a window."""
    if canary.count() < limits.minimum:
        return Verdict(Kind.UNKNOWN, f"{canary.count()} samples of the canary, at least {limits.minimum} are needed")
    if canary.error_percent() > baseline.error_percent() + limits.threshold_percent:
        return _error_breach(baseline, canary, limits)
    ill = _illness(baseline, limits)
    if ill and canary.error_percent() > limits.threshold_percent:
        return Verdict(Kind.UNKNOWN, f"{ill}, and the canary fails too: {canary.errors()}")
    if ill:
        return Verdict(Kind.HOLD, ill)
    limit = limits.latency_limit_ms(baseline.p95_ms())
    p95 = canary.p95_ms()
    if p95 is None or p95 > limit:
        return Verdict(
            Kind.BREACH,
            f"latency: p95 of the canary {_ms(p95)}, of the baseline {_ms(baseline.p95_ms())}, limit {_ms(limit)}",
        )
    return GOOD


def alone(canary: Samples, limits: Limits, latency_max_ms: float) -> Verdict:
    """At the end of a window without a baseline."""
    if canary.count() < limits.minimum:
        return Verdict(Kind.UNKNOWN, f"{canary.count()} samples, at least {limits.minimum} are needed")
    if canary.error_percent() > limits.threshold_percent:
        return _error_breach(Samples(), canary, limits)
    p95 = canary.p95_ms()
    if p95 is None or p95 > latency_max_ms:
        return Verdict(Kind.BREACH, f"latency: p95 {_ms(p95)}, limit {_ms(latency_max_ms)}")
    return GOOD


def _illness(baseline: Samples, limits: Limits) -> str:
    if baseline.count() < limits.minimum:
        return f"{baseline.count()} samples of the baseline, at least {limits.minimum} are needed"
    if baseline.error_percent() > limits.baseline_percent:
        return f"the baseline fails {baseline.error_percent():.1f} % of its probes: {baseline.errors()}"
    return ""


def _error_breach(baseline: Samples, canary: Samples, limits: Limits) -> Verdict:
    return Verdict(
        Kind.BREACH,
        f"errors: {canary.error_percent():.2f} % of the canary's probes, {baseline.error_percent():.2f} % of the "
        f"baseline's, {limits.threshold_percent:g} % more are allowed: {canary.errors()}",
    )


def _ms(value) -> str:
    return "unknown" if value is None else f"{value:.0f} ms"
