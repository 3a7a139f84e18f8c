"""Checks compose files against the Compose specification: python compose.py FILE...

The models come from its schema and pass over a key that they do not know; here such a key is an error.
"""

import re
import sys

import yaml
from compose_spec.models import ComposeSpecification


def interpolated(text):
    """As compose reads it: the default where there is one, and something for what has to be set."""
    text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{[A-Z_]+:\?[^}]*\}", "set", text)


def unknown_keys(given, understood, path=""):
    if isinstance(given, dict) and isinstance(understood, dict):
        for key, value in given.items():
            if key not in understood:
                if not key.startswith("x-"):
                    yield f"{path}{key}"
            else:
                yield from unknown_keys(value, understood[key], f"{path}{key}.")
    elif isinstance(given, list) and isinstance(understood, list):
        for at, (one, other) in enumerate(zip(given, understood)):
            yield from unknown_keys(one, other, f"{path}{at}.")


failed = False
for file in sys.argv[1:]:
    given = yaml.safe_load(interpolated(open(file).read()))
    try:
        understood = ComposeSpecification.model_validate(given)
    except ValueError as error:
        failed = True
        print(f"{file}: {error}", file=sys.stderr)
        continue
    for key in unknown_keys(given, understood.model_dump(mode="json", by_alias=True, exclude_unset=True)):
        failed = True
        print(f"{file}: the Compose specification has no key {key}", file=sys.stderr)
sys.exit(1 if failed else 0)
