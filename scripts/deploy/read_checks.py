"""Checks that only read."""

from deploy.context import Context
from deploy.service import Service
from deploy.table import CheckFailed, CheckSkipped
from deploy.target import state_of

LISTS = (
    "/v1/messages",
    "/v1/emails",
    "/v1/endpoints",
    "/v1/event-types",
    "/v1/deliveries",
    "/v1/webhooks/dlq",
    "/v1/emails/dlq",
    "/v1/replays",
)


def services(context: Context) -> None:
    """Everything that needs no key of the API."""
    table, nobody = context.table, context.nobody
    table.check("API", "lives: /health", lambda: liveness(nobody))
    checks = {}
    table.check("API", "ready: /health/ready", lambda: readiness(nobody, checks))
    table.check("services", "database", lambda: part(checks, "database"))
    table.check("services", "Redis", lambda: part(checks, "redis"))
    table.check("database", "migrations applied", lambda: part(checks, "migrations"))
    table.check("API", "health: /v1/health", lambda: parts_of_health(context))
    table.check("API", "version", lambda: version(context))
    if not context.worker_urls:
        table.check("workers", "ready: /health/ready", lambda: skip("needs WORKER_URLS, the addresses of their probes"))
    for url in context.worker_urls:
        table.check("workers", f"ready: {url}", lambda url=url: readiness(Service(url), {}))
    table.check("API", "documentation: /docs", lambda: page(nobody, "/docs", "text/html"))
    table.check("API", "a request without a key is refused", lambda: refused(nobody))


def skip(reason: str):
    raise CheckSkipped(reason)


def liveness(service: Service) -> str:
    if service.get("/health").get("status") != "ok":
        raise CheckFailed("/health: expected the status ok")
    return ""


def readiness(service: Service, checks: dict) -> str:
    """Fills `checks` with a phrase about each part: `ok`, or its state with the reason."""
    answer = service.call("GET", "/health/ready", (200, 503))
    body = service.json(answer, "/health/ready")
    parts, reasons = (body.get(name) if isinstance(body.get(name), dict) else {} for name in ("checks", "reasons"))
    checks.update({name: in_words(state_of(state), reasons.get(name)) for name, state in parts.items()})
    if answer.status != 200 or body.get("status") != "ready":
        # Some reasons, such as that of a process that stops, belong to no check.
        wrong = [f"{name} {state}" for name, state in checks.items() if state != "ok"]
        wrong += [f"{name}: {reason}" for name, reason in reasons.items() if name not in parts]
        raise CheckFailed("; ".join([f"status {body.get('status')}", *wrong]))
    return ""


def in_words(state: str, reason) -> str:
    return f"{state} ({reason})" if reason else state


def part(checks: dict, name: str) -> str:
    """Degraded is not well: a Redis that is away means that nothing is delivered."""
    if not checks:
        raise CheckSkipped("readiness did not say")
    state = checks.get(name, "nothing about it")
    if state != "ok":
        raise CheckFailed(f"readiness says: {state}")
    return ""


def parts_of_health(context: Context) -> str:
    """The latencies of a small write to the database and to Redis."""
    headers = {"X-Health-Key": context.health_key} if context.health_key else {}
    answer = context.nobody.raw("GET", "/v1/health", headers=headers)
    if answer.status == 404:
        raise CheckSkipped("this version has no /v1/health")
    body = Service.json(answer, "/v1/health")
    if answer.status != 200 or body.get("status") != "ok":
        raise CheckFailed(f"/v1/health {answer.why()}, status {body.get('status')}")
    return ", ".join(f"{name} {body[name]['latency_ms']} ms" for name in ("database", "redis"))


def version(context: Context) -> str:
    """From /health/detailed with the key, otherwise from the document."""
    if context.health_key:
        answer = context.nobody.raw("GET", "/health/detailed", headers={"X-Health-Key": context.health_key})
        if answer.status in (200, 503):
            return str(Service.json(answer, "/health/detailed").get("version", "unknown"))
        if answer.status != 404:
            raise CheckFailed(f"/health/detailed {answer.why()}")
    return str(context.nobody.get("/openapi.json").get("info", {}).get("version", "unknown"))


def page(service: Service, path: str, content_type: str) -> str:
    answer = service.call("GET", path)
    if not answer.headers.get("content-type", "").startswith(content_type):
        raise CheckFailed(f"{path}: expected {content_type}, got {answer.headers.get('content-type')}")
    return ""


def refused(service: Service) -> str:
    answer = service.call("GET", "/v1/messages", (401,))
    if answer.headers.get("content-type") != "application/problem+json":
        raise CheckFailed("the 401 is no application/problem+json")
    return ""


def core(context: Context) -> None:
    """The endpoints that programs use most, each asked for its first page."""
    table = context.table
    table.check("core", "/openapi.json", lambda: document(context.nobody))
    for path in LISTS:
        table.check("core", path, lambda path=path: first_page(context, path))
    table.check("core", "/v1/stats", lambda: stats(context))


def document(service: Service) -> str:
    paths = service.get("/openapi.json").get("paths")
    if not isinstance(paths, dict) or "/v1/messages" not in paths:
        raise CheckFailed("it is no document of this API")
    return f"{len(paths)} paths"


def read(context: Context, path: str) -> dict:
    if context.lacks_tenant:
        raise CheckSkipped("needs TENANT_ID, see above")
    reader = context.reader()
    answer = reader.raw("GET", path)
    if answer.status == 400 and "X-Tenant-Id" in answer.why() and not context.tenant_id:
        context.lacks_tenant = True
        raise CheckFailed("API_KEY is a platform key: name the tenant whose lists to read, with TENANT_ID=ten_…")
    return reader.get(path)


def first_page(context: Context, path: str) -> str:
    if not isinstance(read(context, f"{path}?limit=1").get("data"), list):
        raise CheckFailed(f"{path}: expected data to be a list")
    return ""


def stats(context: Context) -> str:
    found = read(context, "/v1/stats")
    if not isinstance(found.get("dead_letters"), dict):
        raise CheckFailed("/v1/stats: expected dead_letters")
    return ""
