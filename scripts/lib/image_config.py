"""Reads the description of an image (buildah, docker or podman inspect) and prints what the scripts need as shell variables."""

import json
import shlex
import sys

description = json.load(sys.stdin)
if isinstance(description, list):
    description = description[0]
if "Docker" in description:  # buildah
    config = description["Docker"]["config"]
else:
    config = description["Config"]
    config.setdefault("Healthcheck", description.get("HealthCheck"))
health = (config.get("Healthcheck") or {}).get("Test") or []


def array(name, words):
    print(f"{name}=({' '.join(map(shlex.quote, words or []))})")


print(f"user={shlex.quote(config.get('User', ''))}")
array("entrypoint", config.get("Entrypoint"))
array("command", config.get("Cmd"))
array("health", health[1:] if health[:1] == ["CMD"] else [])
array("environment", config.get("Env"))
array("volumes", sorted(config.get("Volumes") or {}))
