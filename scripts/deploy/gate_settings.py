"""Rows of the gate about the settings that the new version runs with, as `check-config` of its own programs sees them."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from deploy import options
from deploy.env_file import PLAIN, SHELL, read_env_file
from deploy.table import CheckFailed, CheckSkipped, Table

POOL_EXTRA = 6
"""Connections of a process beyond DATABASE_CONNECTIONS (docs/configuration.md)."""
RESERVED = 3
"""Connections that PostgreSQL keeps for superusers by default."""
MARGIN_SECONDS = 5
"""An orderly stop may take this much longer than the grace."""


def run(table: Table) -> dict:
    """The settings in force, empty when they could not be had."""
    settings = {}
    table.check("settings", "API: check-config", lambda: check_config("api", settings))
    table.check("settings", "worker: check-config", lambda: check_config("worker", {}))
    for name, check in (
        ("production", production),
        ("mails leave", mails_leave),
        ("links lead to PUBLIC_URL", public_url),
        ("rate limits for all processes", rate_limits),
        ("client addresses behind a proxy", proxies),
        ("database connections sized", connections),
        ("memory of password hashing sized", hashing),
        ("time to stop sized", stopping),
    ):
        table.check("settings", name, lambda check=check: check(need(settings)))
    return settings


def need(settings: dict) -> dict:
    if not settings:
        raise CheckSkipped("the settings are unknown")
    return settings


def program(name: str) -> list:
    """RELAYPOST_API (or _WORKER) may be a whole command, such as a container's; otherwise what cargo built last."""
    command = options.text(f"RELAYPOST_{name.upper()}")
    if command:
        return shlex.split(command)
    target = Path(options.text("CARGO_TARGET_DIR", "target")).resolve()
    built = [
        path for path in (target / profile / f"relaypost-{name}" for profile in ("release", "debug")) if path.exists()
    ]
    if not built:
        raise CheckFailed(
            f"there is no relaypost-{name} in {target}; build it or name it: RELAYPOST_{name.upper()}=PATH"
        )
    return [str(max(built, key=lambda path: path.stat().st_mtime))]


def check_config(name: str, settings: dict) -> str:
    """Fills `settings`. In a folder of its own, where there is no .env."""
    env_file = options.text("ENV_FILE")
    if not env_file:
        raise CheckFailed("ENV_FILE: missing: the file of NAME=VALUE lines that the new version runs with")
    form = options.text("ENV_FILE_FORMAT", SHELL)
    if form not in (SHELL, PLAIN):
        raise CheckFailed(f"ENV_FILE_FORMAT: expected {SHELL} or {PLAIN}, got '{form}'")
    try:
        environment = read_env_file(env_file, form)
    except OSError as error:
        raise CheckFailed(f"ENV_FILE: {error}") from None
    # The caller's own settings must not fill what the file leaves out.
    environment["PATH"] = os.environ.get("PATH", "")
    command = [*program(name), "check-config"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CheckFailed(f"{shlex.join(command)}: {error}") from None
    if done.returncode != 0:
        raise CheckFailed(" ".join(done.stderr.split()) or f"exited with {done.returncode}")
    for line in done.stdout.splitlines():
        setting, equals, value = line.rpartition("  # ")[0].partition("=")
        if equals:
            settings[setting] = value
    return f"{len(done.stdout.splitlines())} settings"


def production(settings: dict) -> str:
    """Only in production are weak secrets refused, demo sign-in off, and the answers protected."""
    if settings.get("APP_ENV") != "production":
        raise CheckFailed(f"APP_ENV={settings.get('APP_ENV')}: expected production; only it refuses weak secrets")
    return "strong secrets, demo sign-in refused"


def mails_leave(settings: dict) -> str:
    if "file:" in settings.get("EMAIL_PROVIDERS", "file:"):
        raise CheckFailed("EMAIL_PROVIDERS keeps mails as files instead of sending them")
    return settings["EMAIL_PROVIDERS"]


def public_url(settings: dict) -> str:
    url = settings.get("PUBLIC_URL", "")
    if not url.startswith("https://"):
        raise CheckFailed(f"PUBLIC_URL={url}: expected https://, the address in mails to people")
    return url


def rate_limits(settings: dict) -> str:
    if settings.get("RATE_LIMIT_ENABLED") == "false":
        raise CheckFailed("RATE_LIMIT_ENABLED=false")
    if not settings.get("RATE_LIMIT_REDIS_URL"):
        raise CheckFailed("RATE_LIMIT_REDIS_URL is not set: each API process lets the whole limit through")
    return ""


def proxies(settings: dict) -> str:
    """The service speaks no TLS itself, so https means that a proxy is in front."""
    if options.text("BASE_URL").startswith("https://") and settings.get("TRUST_PROXY") == "0":
        raise CheckFailed("TRUST_PROXY=0 behind a proxy: everybody has the proxy's address, and shares its limits")
    return f"TRUST_PROXY={settings.get('TRUST_PROXY')}"


def sized(name: str, what: str) -> float:
    if not options.text(name):
        raise CheckSkipped(f"needs {name}, {what}")
    return options.number(name, 0, 1, 1e9)


def connections(settings: dict) -> str:
    processes = sized("PROCESSES", "how many API and worker processes run at most, both versions of a rollout together")
    most = sized("DATABASE_MAX_CONNECTIONS", "max_connections of PostgreSQL")
    needed = processes * (int(settings["DATABASE_CONNECTIONS"]) + POOL_EXTRA)
    if needed > most - RESERVED:
        raise CheckFailed(
            f"{needed:g} connections are needed, {most - RESERVED:g} can be had: lower DATABASE_CONNECTIONS"
        )
    return f"{needed:g} of {most - RESERVED:g}"


def hashing(settings: dict) -> str:
    limit = sized("MEMORY_LIMIT_MB", "the memory limit of one API process")
    needed = int(settings["ARGON2_MEMORY_KIB"]) * int(settings["ARGON2_CONCURRENCY"]) / 1024
    if needed > limit / 2:
        raise CheckFailed(f"a flood of sign-ins takes {needed:.0f} MB, half of the limit is {limit / 2:.0f} MB")
    return f"{needed:.0f} MB of {limit:g} MB"


def stopping(settings: dict) -> str:
    """The platform must not kill a process that still finishes its work."""
    platform = sized("TERMINATION_GRACE_SECONDS", "when the platform kills a process that was told to stop")
    before = options.number("PRESTOP_SECONDS", 0, 0, 3600)
    needed = before + int(settings["SHUTDOWN_GRACE_SECONDS"]) + MARGIN_SECONDS
    if needed > platform:
        raise CheckFailed(f"a stop may take {needed:g} s, the platform kills after {platform:g} s")
    return f"{needed:g} s of {platform:g} s"
