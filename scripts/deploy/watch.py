"""Probes both sides for a window and judges."""

import time
from concurrent.futures import ThreadPoolExecutor, wait

from deploy import judge
from deploy.judge import Kind
from deploy.samples import Samples


class BadBaseline(Exception):
    """The baseline did not answer well, before any traffic was moved."""


class Clock:
    """Real time. Tests have one that they move."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


class Threads:
    """Runs probes beside each other. Each side has as many threads as probes can be under way, so that a side that hangs
    neither holds up the other nor escapes with few samples."""

    def __init__(self, rate: float, deadline: float):
        self.deadline = deadline
        self.size = int(rate * deadline) + 4
        self.pools = {}
        self.running = set()

    def launch(self, side: str, function) -> None:
        pool = self.pools.setdefault(side, ThreadPoolExecutor(self.size, thread_name_prefix=side))
        self.running = {future for future in self.running if not future.done()}
        self.running.add(pool.submit(function))

    def drain(self) -> None:
        """Waits for what is under way, which ends with its own deadline."""
        wait(self.running, timeout=self.deadline + 1)

    def close(self) -> None:
        for pool in self.pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


class Watch:
    """`baseline` is None when there is none any more: then the canary is held to no errors and to `latency_max_ms`."""

    HEALTH_SECONDS = 5.0

    def __init__(self, baseline, canary, limits, *, rate, clock, threads, health, say, latency_max_ms=1000.0):
        self.sides = {"baseline": baseline, "canary": canary}
        self.limits = limits
        self.rate = rate
        self.clock = clock
        self.threads = threads
        self.health = health
        self.say = say
        self.latency_max_ms = latency_max_ms
        self._looking = False
        self._health = judge.GOOD
        """The verdict of the last look at the health."""

    def first_look(self) -> judge.Verdict:
        """Each kind of probe once on each side. Raises BadBaseline."""
        for name, target in self.sides.items():
            for path in target.paths if target else ():
                sample = target.ask(path)
                if sample.error and name == "baseline":
                    raise BadBaseline(f"the baseline {target.base_url}: {sample.error}")
                if sample.error:
                    return judge.Verdict(Kind.BREACH, f"the canary {target.base_url}: {sample.error}")
        return self.health.first_look()

    def windows(self, seconds: float) -> judge.Verdict:
        """One window after the other for this long; the first that is not good ends it."""
        end = self.clock.now() + seconds
        while True:
            verdict = self.window()
            if verdict.kind is not Kind.GOOD or self.clock.now() >= end:
                return verdict

    def window(self) -> judge.Verdict:
        samples = {"baseline": Samples(), "canary": Samples()}
        begin = self.clock.now()
        next_look = begin
        for turn in range(self.limits.planned):
            self._launch(samples)
            if self.clock.now() >= next_look:
                self._start_look()
                next_look = self.clock.now() + self.HEALTH_SECONDS
            for verdict in (judge.early(samples["baseline"], samples["canary"], self.limits), self._health):
                if verdict.kind is not Kind.GOOD:
                    return verdict
            self.clock.sleep(begin + (turn + 1) / self.rate - self.clock.now())
        self.threads.drain()
        self._report(samples)
        return self._final(samples)

    def _start_look(self) -> None:
        """Beside the probes, which a look that hangs must not hold up."""
        if not self._looking:
            self._looking = True
            self.threads.launch("health", self._look)

    def _look(self) -> None:
        try:
            self._health = self.health.look()
        except Exception as error:
            # In a thread nobody would see it, and nothing that is unknown is good.
            self._health = judge.Verdict(Kind.UNKNOWN, f"the look at the health failed: {error!r}")
        finally:
            self._looking = False

    def _launch(self, samples) -> None:
        for name, target in self.sides.items():
            if target is not None:
                side = samples[name]
                self.threads.launch(name, lambda target=target, side=side: side.add(target.probe()))

    def _final(self, samples) -> judge.Verdict:
        if self.sides["baseline"] is None:
            return judge.alone(samples["canary"], self.limits, self.latency_max_ms)
        return judge.final(samples["baseline"], samples["canary"], self.limits)

    def _report(self, samples) -> None:
        for name, target in self.sides.items():
            if target is not None:
                self.say(f"  {name:<8} {samples[name].summary()}")
        if self.health.note:
            self.say(f"  health   {self.health.note}")
