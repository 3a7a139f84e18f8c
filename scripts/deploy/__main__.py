"""`python3 -m deploy COMMAND`, called by scripts/deployment."""

import sys

from deploy import gate, monitor, preflight, rollout
from deploy.options import BadOption

COMMANDS = {"preflight": preflight.main, "gate": gate.main, "rollout": rollout.main, "monitor": monitor.main}


def main() -> int:
    command = COMMANDS.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if command is None:
        print(f"usage: scripts/deployment {'|'.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return command()
    except BadOption as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


sys.exit(main())
