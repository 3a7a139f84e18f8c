"""Makes a tenant with a little of everything for one run, and a key with the scopes that the run is about.

    prepare.py BASE_URL SCOPE      SCOPE: nobody, send, read, manage, admin, platform

Prints shell variables: CONTRACT_KEY, CONTRACT_TENANT, CONTRACT_OWN_KEYS. Needs ROOT_API_KEY.
"""

import json
import os
import sys
import time
import urllib.request

BASE, SCOPE = sys.argv[1], sys.argv[2]
ROOT = os.environ["ROOT_API_KEY"]
DEADLINE_SECONDS = 60


def ask(method, path, body=None, tenant=None):
    headers = {"authorization": f"Bearer {ROOT}", "content-type": "application/json"}
    if tenant:
        headers["x-tenant-id"] = tenant
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


tenant = ask("POST", "/v1/tenants", {"name": f"contract, {SCOPE}"})["id"]
# Nobody listens there and nothing is retried: every message is a dead letter at once.
endpoint = {"url": "http://127.0.0.1:9/", "retry_schedule": []}
ask("POST", "/v1/endpoints", endpoint, tenant)
for number in range(3):
    message = {"event_type": "order.created", "payload": {"n": number}}
    ask("POST", "/v1/messages", message, tenant)
email = {"to": ["ann@example.com"], "subject": "Hello", "text": "Hello"}
email["send_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 30 * 86400))
ask("POST", "/v1/emails", email, tenant)

end = time.monotonic() + DEADLINE_SECONDS
while not ask("GET", "/v1/webhooks/dlq", tenant=tenant)["data"]:
    if time.monotonic() > end:
        sys.exit("no message became a dead letter: does the worker run?")
    time.sleep(0.1)

key, own = "", ""
if SCOPE == "platform":
    key = ROOT
elif SCOPE != "nobody":
    new = {"name": f"contract, {SCOPE}", "scopes": [SCOPE]}
    created = ask("POST", f"/v1/tenants/{tenant}/api-keys", new)
    key, own = created["key"], created["id"]
print(f"CONTRACT_KEY={key} CONTRACT_TENANT={tenant} CONTRACT_OWN_KEYS={own}")
