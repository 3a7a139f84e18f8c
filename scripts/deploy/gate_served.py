"""Rows of the gate about what the new version really serves."""

import re
import socket
import ssl
import time
from urllib.parse import urlsplit

from deploy import options
from deploy.service import Service
from deploy.table import CheckFailed, CheckSkipped, Table

STRANGER = "https://stranger.example"
HSTS_SECONDS = 15552000
"""Half a year: what scanners of TLS settings ask for."""
CERTIFICATE_DAYS = 14


def run(table: Table, base_url: str, settings: dict) -> None:
    service = Service(base_url)
    table.check("served", "https, certificate", lambda: certificate(base_url))
    table.check("served", "HSTS", lambda: hsts(service))
    table.check("served", "CSP", lambda: csp(service))
    table.check("served", "nosniff", lambda: header(service, "x-content-type-options", "nosniff"))
    table.check("served", "CORS: a foreign origin", lambda: foreign_origin(service))
    table.check("served", "CORS: CORS_ORIGINS", lambda: own_origins(service, settings))
    table.check("served", "keys are required", lambda: keys_required(service))
    table.check("served", "a wrong key is refused", lambda: wrong_key(base_url))
    table.check("served", "demo sign-in is off", lambda: demo_off(service))
    table.check("served", "health details are closed", lambda: details_closed(service))
    table.check("served", "the expected version", lambda: version(service))


def certificate(base_url: str) -> str:
    if not base_url.startswith("https://"):
        if options.flag("ALLOW_HTTP"):
            raise CheckSkipped("ALLOW_HTTP=1")
        raise CheckFailed("BASE_URL is http; ALLOW_HTTP=1 is for an address behind the proxy that speaks TLS")
    url = urlsplit(base_url)
    context = ssl.create_default_context()
    try:
        with socket.create_connection((url.hostname, url.port or 443), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname=url.hostname) as secured:
                until = ssl.cert_time_to_seconds(secured.getpeercert()["notAfter"])
    except OSError as error:
        raise CheckFailed(str(error)) from None
    days = (until - time.time()) / 86400
    if days < CERTIFICATE_DAYS:
        raise CheckFailed(f"the certificate ends in {days:.0f} days")
    return f"good for {days:.0f} days"


def probe(service: Service):
    """An answer of the API proper, which every protection has to be on."""
    return service.call("GET", "/v1/messages", (401,))


def header(service: Service, name: str, expected: str) -> str:
    value = probe(service).headers.get(name)
    if value != expected:
        raise CheckFailed(f"{name}: expected {expected}, got {value}")
    return ""


def hsts(service: Service) -> str:
    value = probe(service).headers.get("strict-transport-security", "")
    age = re.search(r"max-age=(\d+)", value)
    if not age or int(age.group(1)) < HSTS_SECONDS:
        raise CheckFailed(f"strict-transport-security: expected a max-age of at least {HSTS_SECONDS}, got '{value}'")
    return value


def csp(service: Service) -> str:
    for answer in (probe(service), service.call("GET", "/docs")):
        policy = answer.headers.get("content-security-policy", "")
        if "default-src 'none'" not in policy or "unsafe-eval" in policy:
            raise CheckFailed(
                f"content-security-policy: expected default-src 'none' without unsafe-eval, got '{policy}'"
            )
    return ""


def foreign_origin(service: Service) -> str:
    asks = {"Origin": STRANGER, "Access-Control-Request-Method": "POST"}
    for method, headers in (("OPTIONS", asks), ("GET", {"Origin": STRANGER})):
        allowed = service.raw(method, "/v1/messages", headers=headers).headers.get("access-control-allow-origin")
        if allowed:
            raise CheckFailed(f"{method} with a foreign Origin is allowed: {allowed}")
    return "refused"


def own_origins(service: Service, settings: dict) -> str:
    if not settings:
        raise CheckSkipped("the settings are unknown")
    origins = [origin.strip().rstrip("/") for origin in settings.get("CORS_ORIGINS", "").split(",")]
    if origins in ([""], ["none"]):
        return "none"
    for origin in origins:
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        allowed = service.raw("OPTIONS", "/v1/messages", headers=asks).headers.get("access-control-allow-origin")
        if allowed != origin:
            raise CheckFailed(f"{origin} stands in CORS_ORIGINS and is not allowed: other settings are in force")
    return ", ".join(origins)


def keys_required(service: Service) -> str:
    """Every list of the document, asked without a key."""
    document = service.get("/openapi.json")
    paths = [
        path
        for path, item in document.get("paths", {}).items()
        if "{" not in path and "security" in item.get("get", {})
    ]
    if not paths:
        raise CheckFailed("the document names no operation that needs a key")
    for path in paths:
        answer = service.raw("GET", path)
        if answer.status not in (401, 403):
            raise CheckFailed(f"GET {path} without a key {answer.why()}")
    return f"{len(paths)} operations"


def wrong_key(base_url: str) -> str:
    Service(base_url, "rp_0000000000000000000000000000000000000000").call("GET", "/v1/messages", (401,))
    return ""


def demo_off(service: Service) -> str:
    answer = service.raw("GET", "/auth/demo?user=admin&tenant=demo")
    if answer.status not in (403, 404):
        raise CheckFailed(f"/auth/demo {answer.why()}")
    return ""


def details_closed(service: Service) -> str:
    """A caller on the same machine needs no key, so only another address tells."""
    if options.is_loopback(service.base_url):
        raise CheckSkipped("BASE_URL is this machine, which needs no key")
    answer = service.raw("GET", "/health/detailed")
    if answer.status not in (401, 403, 404):
        raise CheckFailed(f"/health/detailed without HEALTH_KEY {answer.why()}")
    return ""


def version(service: Service) -> str:
    found = str(service.get("/openapi.json").get("info", {}).get("version"))
    expected = options.text("CANARY_VERSION")
    if not expected:
        raise CheckSkipped(f"needs CANARY_VERSION; {found} is served")
    if found != expected:
        raise CheckFailed(f"expected {expected}, {found} is served")
    return found
