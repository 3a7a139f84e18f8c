"""A file of settings, in one of two formats, because the programs that take such files do not read them alike.

`shell`: as compose, systemd and a shell's `source` read it. What they read differently is refused, but for `export`.
`plain`: as `docker run --env-file` and kustomize read it, which take each value as it is, quotes included.
"""

import re
from pathlib import Path

from deploy.table import CheckFailed

SHELL, PLAIN = "shell", "plain"
BLANKS = " \t"
LINE = re.compile(r"(?P<export>export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)", re.DOTALL)
SINGLE_QUOTED = re.compile(r"'(?P<value>[^']*)'")
DOUBLE_QUOTED = re.compile(r'"(?P<value>(?:[^"\\]|\\.)*)"')
COMMENT = re.compile(r"(?:^|[ \t]+)#.*", re.DOTALL)
COMMENT_OR_NOTHING = re.compile(r"(?:[ \t]+#.*)?", re.DOTALL)
# Without quotes some of the programs split a value at these, replace them, or take them away.
SPECIAL = re.compile(r"[\s\\'\"$`;&|<>(){}~]")
# The same between double quotes: all of them take away a backslash before these three characters only.
PLAIN_OR_ESCAPED = re.compile(r"(?:[^\\$`]|\\[\"\\$])*")


def read_env_file(path: str, form: str = SHELL) -> dict:
    """One NAME=VALUE in each line. Raises CheckFailed, whose text names the line and never holds a value."""
    values = {}
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), 1):
        try:
            text = readable(line)
            if text and not text.startswith("#"):
                name, value = read_line(text, form)
                values[name] = value
        except ValueError as error:
            raise CheckFailed(f"{path}, line {number}: {error}") from None
    return values


def readable(line: bytes) -> str:
    """The text of a line without the blanks before it and the end of a line of Windows. Raises ValueError."""
    try:
        text = line.removesuffix(b"\r").decode().lstrip(BLANKS)
    except UnicodeDecodeError:
        raise ValueError("expected UTF-8") from None
    if "\0" in text:
        raise ValueError("expected text without NUL")
    return text


def read_line(text: str, form: str) -> tuple:
    """The name and the value. Raises ValueError."""
    match = LINE.fullmatch(text)
    if match is None or (match["export"] and form == PLAIN):
        raise ValueError("expected NAME=VALUE")
    if form == PLAIN:
        return match["name"], match["value"]
    try:
        return match["name"], read_value(match["value"].rstrip(BLANKS))
    except ValueError as error:
        raise ValueError(f"{match['name']}: {error}") from None


def read_value(text: str) -> str:
    """Raises ValueError."""
    if not text.startswith(("'", '"')):
        value = COMMENT.sub("", text, count=1)
        if SPECIAL.search(value) or text.startswith("#"):
            raise ValueError(
                "not every program reads a value with such characters alike; put it between single quotes, or set "
                "ENV_FILE_FORMAT=plain if `docker run` or kustomize reads this file"
            )
        return value
    quoted = SINGLE_QUOTED.match(text) or DOUBLE_QUOTED.match(text)
    if quoted is None:
        raise ValueError("the closing quote is missing")
    if not COMMENT_OR_NOTHING.fullmatch(text[quoted.end() :]):
        raise ValueError("expected nothing but a comment after the closing quote")
    if quoted.re is SINGLE_QUOTED:
        return quoted["value"]
    if not PLAIN_OR_ESCAPED.fullmatch(quoted["value"]):
        raise ValueError(r'between double quotes only \$, \" and \\ are read alike by every program; use single quotes')
    return re.sub(r'\\(["\\$])', r"\1", quoted["value"])
