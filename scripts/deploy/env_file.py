"""A file of settings, as `docker run --env-file` and a shell's `source` read it, where the two agree."""

import re
from pathlib import Path

from deploy.table import CheckFailed

LINE = re.compile(r"(?P<export>export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)")
WORD = re.compile(r"""(?: '[^']*' | "(?:[^"\\]|\\.)*" | \\. | [^\s'"\\] )+""", re.VERBOSE)
PART = re.compile(r"""'(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | \\(?P<escaped>.) | (?P<plain>.)""", re.VERBOSE)
COMMENT = re.compile(r"(?:^|\s+)#.*")


def read_env_file(path: str) -> dict:
    """One NAME=VALUE in each line, with or without `export`. A `#` begins a comment at the start of a line or after a blank.

    A value that begins with a quote is read as a word of a shell, without its expansions. Any other one is taken as it is,
    blanks and backslashes included. Raises CheckFailed, whose text never holds a value.
    """
    values = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = LINE.fullmatch(text)
        if match is None:
            raise CheckFailed(f"{path}, line {number}: expected NAME=VALUE")
        try:
            values[match["name"]] = read_value(match["value"], shell=bool(match["export"]))
        except ValueError as error:
            raise CheckFailed(f"{path}, line {number}: {match['name']}: {error}") from None
    return values


def read_value(text: str, shell: bool) -> str:
    """`shell`: the line can only be one of a shell. Raises ValueError."""
    if text.startswith(("'", '"')):
        word = WORD.match(text)
        if word is None or not COMMENT.sub("", text[word.end() :]) == "":
            raise ValueError("expected one value between quotes, and nothing but a comment behind it")
        return "".join(unquoted(part) for part in PART.finditer(word[0]))
    value = COMMENT.sub("", text, count=1)
    if shell and re.search(r"[\s\\'\"]", value):
        raise ValueError("a shell would split the value or take something from it; put it between single quotes")
    return value


def unquoted(part: re.Match) -> str:
    if part["double"] is not None:
        # Before any other character the backslash stays.
        return re.sub(r'\\(["\\$`])', r"\1", part["double"])
    return part[part.lastgroup]
