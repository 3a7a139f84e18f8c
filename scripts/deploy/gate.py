"""May a new version be promoted? Checks what a program can of docs/promotion.md; exits with 1 when a row failed.

It needs the address of the new version before it has traffic (BASE_URL) and the settings it runs with (ENV_FILE). A row whose
optional input was not given is `skipped`; with STRICT=1 it fails.
"""

from deploy import gate_image, gate_served, gate_settings, options, preflight
from deploy.context import Context, end_on_signal
from deploy.table import FAILED, SKIPPED, CheckFailed, Row, Table


def key_given(context: Context) -> str:
    """Without one the smoke test would skip what matters, and the gate would open all the same."""
    if not (context.api_key or context.tenant_key):
        raise CheckFailed("needs TENANT_KEY of a test tenant, or API_KEY with the scope read")
    return ""


def main() -> int:
    end_on_signal()
    base_url = options.base_url(
        "BASE_URL",
        options.required("BASE_URL", "the new version, before it has traffic: BASE_URL=https://canary.example.com"),
    )
    strict = options.flag("STRICT")
    table = Table()
    print(f"gate before the promotion of {base_url}")
    settings = gate_settings.run(table)
    gate_served.run(table, base_url, settings)
    gate_image.run(table)
    print("smoke test:")
    with Context(table, base_url) as context:
        print(context.mode())
        table.check("smoke", "a key was given", lambda: key_given(context))
        preflight.run(context)
    if strict:
        for row in [row for row in table.rows if row.result == SKIPPED]:
            table.add(Row(row.area, row.name, FAILED, "skipped, and STRICT=1 wants every row checked"))
    code = table.finish()
    print("the gate is closed" if code else "the gate is open")
    return code
