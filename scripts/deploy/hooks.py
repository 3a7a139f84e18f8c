"""The operator's own commands that move traffic. Each is a line of bash, and its argument is appended to it."""

import os
import signal
import subprocess
from dataclasses import dataclass


class HookFailed(Exception):
    """A hook exited with another code than 0, or did not end in time."""


@dataclass(frozen=True)
class Hooks:
    weight: str
    """Called with the weight of the canary in per cent."""
    rollback: str
    promote: str
    environment: dict
    timeout: float = 120.0
    rollback_pause: float = 2.0
    """How long to wait, in seconds, before a failed rollback is tried again. The next pause is longer."""

    def set_weight(self, weight: int) -> None:
        self._run("WEIGHT_CMD", self.weight, str(weight), {"CANARY_WEIGHT": str(weight)})

    def roll_back(self, reason: str) -> None:
        """Called with the reason."""
        self._run("ROLLBACK_CMD", self.rollback, reason, {"ROLLBACK_REASON": reason})

    def promote_canary(self) -> None:
        if self.promote:
            self._run("PROMOTE_CMD", self.promote, None, {})

    def _run(self, name: str, line: str, argument, environment: dict) -> None:
        # Behind a semicolon the argument would be a command of its own.
        line = line.rstrip("; \t\n")
        command = ["bash", "-c", f'{line} "$@"', name, *([] if argument is None else [argument])]
        # A group of its own: Ctrl-C is ours to handle, and what hangs is ended together with its children.
        process = subprocess.Popen(
            command,
            env={**os.environ, **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            raise HookFailed(f"{name} did not end within {self.timeout:g} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code != 0:
            raise HookFailed(f"{name} exited with {code}")
