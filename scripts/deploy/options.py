"""Settings of these commands: environment variables, which `make deploy-monitor MINUTES=30` sets too."""

import os
from urllib.parse import urlsplit


class BadOption(Exception):
    """A variable is missing or wrong. The text names it and says what is expected."""


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def required(name: str, why: str) -> str:
    value = text(name)
    if not value:
        raise BadOption(f"{name}: missing: {why}")
    return value


def flag(name: str) -> bool:
    value = text(name, "0")
    if value not in ("0", "1"):
        raise BadOption(f"{name}: expected 1 or 0, got '{value}'")
    return value == "1"


def number(name: str, default: float, least: float, most: float) -> float:
    """A number within bounds, both included."""
    value = text(name, str(default))
    try:
        parsed = float(value)
    except ValueError:
        parsed = float("nan")
    # Not a number fits no bounds.
    if not least <= parsed <= most:
        raise BadOption(f"{name}: expected a number from {least:g} to {most:g}, got '{value}'")
    return parsed


def words(name: str, default: str = "") -> list:
    return text(name, default).split()


def base_url(name: str, value: str) -> str:
    """An http or https address, sub-paths included, without the slash at its end."""
    try:
        url = urlsplit(value)
        valid = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        valid = False
    if not valid or url.query or url.fragment or url.username:
        raise BadOption(f"{name}: expected http://HOST:PORT or https://HOST, got '{value}'")
    return value.rstrip("/")


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
