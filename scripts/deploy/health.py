"""Compares the health of both sides, beside the probes. It finds a part that is worse on the canary, another version than the
expected one, and due work that no longer goes out."""

from deploy.client import NoAnswer
from deploy.judge import GOOD, Kind, Verdict
from deploy.target import NoDetails, Target, state_of
from deploy.text import plain

RANK = {"ok": 0, "degraded": 1}
"""Anything else is as bad as `failed`."""
WORST = 2


class HealthWatch:
    """Looks now and then. A single look may fall into a blip, such as a connection that was just cut: what is worse has to be
    so in two looks in a row, unless nothing has been moved yet."""

    def __init__(self, baseline, canary: Target, due_age_limit: float):
        self.baseline = baseline
        self.canary = canary
        self.due_age_limit = due_age_limit
        self.note = ""
        """The canary's version and the age of its work, for the log."""
        self._suspects = set()

    def first_look(self) -> Verdict:
        self.look()
        return self.look()

    def look(self) -> Verdict:
        before, self._suspects = self._suspects, set()
        verdict = self._look()
        return GOOD if self._suspects - before else verdict

    def _suspect(self, what: str, reason: str) -> Verdict:
        self._suspects.add(what)
        return Verdict(Kind.BREACH, f"health: {reason}")

    def _look(self) -> Verdict:
        try:
            details = self.canary.details()
            canary = parts(self.canary, details)
        except NoAnswer as error:
            return self._suspect("answer", f"the canary: {error}")
        except NoDetails as error:
            return self._refused(error)
        try:
            baseline = parts(self.baseline, self.baseline.details()) if self.baseline else {}
        except (NoAnswer, NoDetails):
            baseline = {}
        for name, state in canary.items():
            before = baseline.get(name, "ok")
            if RANK.get(state, WORST) > RANK.get(before, WORST):
                return self._suspect(name, f"{name} is {state} on the canary, {before} on the baseline")
        return self._details(details)

    def _refused(self, error: NoDetails) -> Verdict:
        """A baseline of an older version has no details either; then there is nothing to compare."""
        try:
            if self.baseline:
                self.baseline.details()
        except NoAnswer:
            pass
        except NoDetails as theirs:
            if theirs.status == error.status == 404 and not self.canary.version:
                return GOOD
        return Verdict(Kind.BREACH, f"the canary {self.canary.base_url}: {error}")

    def _details(self, details: dict) -> Verdict:
        if not details:
            return GOOD
        version = plain(str(details.get("version", "")))
        if self.canary.version and version != self.canary.version:
            return Verdict(
                Kind.BREACH, f"version: {self.canary.base_url} runs {version or 'unknown'}, not {self.canary.version}"
            )
        age = oldest_due_age(details)
        self.note = f"version {version}" if version else ""
        if age is not None:
            self.note += f", oldest due work {age:.0f} s"
            if age > self.due_age_limit:
                limit = self.due_age_limit
                return Verdict(Kind.BREACH, f"delivery: due work has waited for {age:.0f} s, the limit is {limit:g} s")
        return GOOD


def parts(target: Target, details: dict) -> dict:
    """The checks of readiness and the components of the details, each with its state."""
    components = details.get("components")
    named = components.items() if isinstance(components, dict) else ()
    return {**target.readiness(), **{name: state_of(component) for name, component in named}}


def oldest_due_age(details: dict):
    """The oldest age in seconds of work that is due, over all lanes; None when they are not there."""
    lanes = details.get("lanes")
    ages = [lane.get("oldest_due_age_s") for lane in lanes.values()] if isinstance(lanes, dict) else []
    return max((float(age) for age in ages if isinstance(age, (int, float))), default=None)
