"""Text of a server, before it goes to a terminal, a log or a hook."""

LIMIT = 300


def plain(text: str) -> str:
    """One printable line: no control characters, no NUL, which an environment variable cannot hold, no lone surrogates."""
    line = "".join(character if character.isprintable() else " " for character in text[:LIMIT])
    return " ".join(line.split())
