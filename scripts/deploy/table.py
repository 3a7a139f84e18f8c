"""The table that preflight and the gate print."""

import sys
from dataclasses import dataclass

from deploy.text import plain

OK, FAILED, SKIPPED = "ok", "failed", "skipped"


@dataclass(frozen=True)
class Row:
    area: str
    name: str
    result: str
    detail: str


class CheckFailed(Exception):
    """A check found something wrong. The text says what, and what to do."""


class CheckSkipped(Exception):
    """A check could not be made. The text says what it would need."""


class Table:
    """Runs checks, prints a line for each as it ends, and counts."""

    def __init__(self, out=None):
        self.rows = []
        self.out = out or sys.stdout

    def check(self, area: str, name: str, function) -> bool:
        """`function` returns a detail for the reader, or raises CheckFailed or CheckSkipped."""
        try:
            result, detail = OK, function() or ""
        except CheckFailed as error:
            result, detail = FAILED, str(error)
        except CheckSkipped as error:
            result, detail = SKIPPED, str(error)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            # JSON of another shape than the document says.
            result, detail = FAILED, f"the answer has an unexpected form ({type(error).__name__}: {error})"
        self.add(Row(area, name, result, detail))
        return result == OK

    def add(self, row: Row) -> None:
        self.rows.append(row)
        # Details hold text of servers.
        print(f"{row.area:<10} {row.name:<34} {row.result:<8} {plain(row.detail)}".rstrip(), file=self.out, flush=True)

    def count(self, result: str) -> int:
        return sum(row.result == result for row in self.rows)

    def finish(self) -> int:
        """Prints the sum; 1 when a check failed."""
        failed = [f"{row.area}: {row.name}" for row in self.rows if row.result == FAILED]
        print(f"{self.count(OK)} ok, {len(failed)} failed, {self.count(SKIPPED)} skipped", file=self.out)
        for name in failed:
            print(f"failed: {name}", file=self.out)
        return 1 if failed else 0
