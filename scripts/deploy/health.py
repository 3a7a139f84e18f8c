"""What the health of both sides says, beside the probes: a part that is worse on the canary, another version than the one
that is rolled out, work that no longer goes out."""

from deploy.client import NoAnswer
from deploy.judge import GOOD, Kind, Verdict
from deploy.target import Target, state_of

RANK = {"ok": 0, "degraded": 1}
"""Anything else is as bad as `failed`."""
WORST = 2


class HealthWatch:
    """Looks now and then. A look that is not answered is left to the probes, which count it as an error."""

    def __init__(self, baseline, canary: Target, due_age_limit: float):
        self.baseline = baseline
        self.canary = canary
        self.due_age_limit = due_age_limit
        self.note = ""
        """The canary's version, backlog and age, for the log."""

    def look(self) -> Verdict:
        try:
            theirs = self._parts(self.canary)
        except NoAnswer:
            return GOOD
        try:
            ours = self._parts(self.baseline) if self.baseline else {}
        except NoAnswer:
            ours = {}
        for name, state in theirs.items():
            before = RANK.get(ours.get(name, "ok"), WORST)
            if RANK.get(state, WORST) > before:
                return Verdict(Kind.BREACH, f"health: {name} is {state} on the canary, {ours.get(name, 'ok')} on the baseline")
        return self._details(self.canary.details())

    def _parts(self, target: Target) -> dict:
        parts = dict(target.readiness())
        details = target.details() or {}
        components = details.get("components")
        if isinstance(components, dict):
            parts.update({name: state_of(component) for name, component in components.items()})
        return parts

    def _details(self, details) -> Verdict:
        if details is None:
            return GOOD
        version = str(details.get("version", ""))
        if self.canary.version and version != self.canary.version:
            return Verdict(Kind.BREACH, f"version: {self.canary.base_url} runs {version or 'unknown'}, not {self.canary.version}")
        age = oldest_due_age(details)
        self.note = f"version {version}" if version else ""
        if age is not None:
            self.note += f", oldest due work {age:.0f} s"
            if age > self.due_age_limit:
                return Verdict(Kind.BREACH, f"delivery: due work has waited for {age:.0f} s, the limit is {self.due_age_limit:g} s")
        return GOOD


def oldest_due_age(details):
    """The oldest age in seconds of work that is due, over all lanes; None when it is not told."""
    ages = []

    def collect(value):
        if isinstance(value, dict):
            for name, inner in value.items():
                if name.startswith("oldest_due_age") and isinstance(inner, (int, float)):
                    ages.append(float(inner) / (1000 if name.endswith("_ms") else 1))
                else:
                    collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    collect(details)
    return max(ages, default=None)
