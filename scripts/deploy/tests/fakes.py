"""Time that the test moves, probes that answer as the test says, and threads that are none."""

from deploy.judge import GOOD
from deploy.samples import Sample


class FakeClock:
    def __init__(self):
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += max(0.0, seconds)


class Inline:
    """Makes each probe at once."""

    def launch(self, _side, function):
        function()

    def drain(self):
        pass

    def close(self):
        pass


class FakeTarget:
    """`answer` gets the number of the probe, from 1, and the time, and returns a Sample."""

    def __init__(self, clock, answer):
        self.clock = clock
        self.answer = answer
        self.count = 0
        self.base_url = "http://fake"
        self.paths = ["/"]

    def probe(self) -> Sample:
        self.count += 1
        return self.answer(self.count, self.clock.now())

    def ask(self, _path) -> Sample:
        return self.answer(1, self.clock.now())


class FakeHealth:
    note = ""

    def first_look(self):
        return GOOD

    def look(self):
        return GOOD


class FakeHooks:
    """Keeps what it is called with. `failing` names the calls that fail."""

    def __init__(self, error, failing=()):
        self.calls = []
        self.error = error
        self.failing = failing
        self.rollback = "rollback"
        self.rollback_pause = 2.0

    def _call(self, call: str) -> None:
        self.calls.append(call)
        if call in self.failing:
            raise self.error(call)

    def set_weight(self, weight):
        self._call(str(weight))

    def promote_canary(self):
        self._call("promote")

    def roll_back(self, _reason):
        self._call("rollback")


def good(seconds=0.01):
    return lambda _count, _time: Sample(seconds)
