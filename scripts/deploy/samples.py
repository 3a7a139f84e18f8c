"""The results of the probes of one side in one window."""

import math
from collections import Counter
from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True)
class Sample:
    seconds: float
    """How long the answer took; of no meaning when there is an error."""
    error: str = ""
    """Why it does not count as good, in a few words; empty when it does."""


class Samples:
    """Probes report from threads of their own."""

    def __init__(self):
        self._lock = Lock()
        self._seconds = []
        self._errors = Counter()

    def add(self, sample: Sample) -> None:
        with self._lock:
            if sample.error:
                self._errors[sample.error] += 1
            else:
                self._seconds.append(sample.seconds)

    def count(self) -> int:
        with self._lock:
            return len(self._seconds) + self._errors.total()

    def failed(self) -> int:
        with self._lock:
            return self._errors.total()

    def error_percent(self) -> float:
        with self._lock:
            count = len(self._seconds) + self._errors.total()
            return 100 * self._errors.total() / count if count else 0.0

    def p95_ms(self):
        """The 95th percentile of the good answers (nearest rank) in milliseconds, or None without any."""
        with self._lock:
            ordered = sorted(self._seconds)
        if not ordered:
            return None
        return 1000 * ordered[math.ceil(0.95 * len(ordered)) - 1]

    def errors(self) -> str:
        """The commonest errors with their numbers."""
        with self._lock:
            return ", ".join(f"{error} ({number}x)" for error, number in self._errors.most_common(3))

    def summary(self) -> str:
        p95 = self.p95_ms()
        latency = "no good answer" if p95 is None else f"p95 {p95:.0f} ms"
        return f"{self.count()} probes, {self.error_percent():.2f} % errors, {latency}"
