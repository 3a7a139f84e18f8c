"""Is a running instance well? Prints a table; exits with 1 when a check failed.

By itself it only reads. It writes on the local instance of `make up`, with TENANT_KEY (a key of a test tenant, and only
there), or with PREFLIGHT_WRITE=1 (docs/promotion.md). It removes everything that it made and that the API can delete:
messages and emails stay in the history of the test tenant.
"""

import secrets

from deploy import delivery_checks, options, read_checks, sign_in_checks
from deploy.context import Context, end_on_signal
from deploy.service import Service
from deploy.table import Table

TENANT_NAME = "preflight"
"""One for all runs, because a tenant cannot be deleted."""


def main() -> int:
    end_on_signal()
    base_url = options.base_url(
        "BASE_URL",
        options.required("BASE_URL", "nothing runs here by make up; name the instance: BASE_URL=https://HOST"),
    )
    table = Table()
    with Context(table, base_url) as context:
        print(f"preflight of {base_url}, {context.mode()}")
        run(context)
    return table.finish()


def run(context: Context) -> None:
    read_checks.services(context)
    table = context.table
    if context.may_write:
        table.check("set-up", "tenant and key for the checks", lambda: set_up(context))
    read_checks.core(context)
    sign_in_checks.run(context)
    delivery_checks.run(context)


def set_up(context: Context) -> str:
    """Finds or makes the test tenant, and a key in it that is revoked at the end."""
    if context.tenant_key:
        context.tenant = Service(context.base_url, context.tenant_key)
        return "TENANT_KEY was given"
    platform = context.platform
    tenant = find_tenant(platform) or platform.post("/v1/tenants", {"name": TENANT_NAME})
    path = f"/v1/tenants/{tenant['id']}/api-keys"
    key = platform.post(path, {"name": f"preflight {secrets.token_hex(4)}", "scopes": ["send", "read", "manage"]})
    context.cleanup(f"key {key['id']}", lambda: platform.call("DELETE", f"{path}/{key['id']}", (204, 200)))
    context.tenant = Service(context.base_url, key["key"])
    context.tenant_id = tenant["id"]
    return f"tenant {tenant['id']}"


def find_tenant(platform: Service):
    path = "/v1/tenants?limit=100"
    while True:
        page = platform.get(path)
        for tenant in page.get("data", []):
            if tenant.get("name") == TENANT_NAME:
                return tenant
        if not page.get("next_cursor"):
            return None
        path = f"/v1/tenants?limit=100&cursor={page['next_cursor']}"
