"""Makes a tenant with a little of everything for one run, and a key with the scopes that the run is about.

    prepare.py BASE_URL SCOPE      SCOPE: nobody, send, read, manage, admin, platform

Prints shell variables: CONTRACT_KEY, CONTRACT_TENANT, CONTRACT_OWN_KEYS, CONTRACT_THINGS. Needs ROOT_API_KEY.
"""

import json
import os
import shlex
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
things = {"tenant_id": [tenant], "endpoint_id": [], "email_id": [], "message_id": [], "delivery_id": [], "key_id": []}
in_a_month = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 30 * 86400))
for number in range(6):
    # Nobody listens there and nothing is retried: a message to it is a dead letter at once.
    event_type = f"order.{number}"
    new = {"url": "http://127.0.0.1:9/", "retry_schedule": [], "event_types": [event_type]}
    things["endpoint_id"].append(ask("POST", "/v1/endpoints", new, tenant)["id"])
    message = {"event_type": event_type, "payload": {"n": number}}
    ask("POST", "/v1/messages", message, tenant)
    waiting = ask("POST", "/v1/messages", message | {"deliver_at": in_a_month}, tenant)
    things["message_id"].append(waiting["id"])
    things["delivery_id"].append(waiting["deliveries"][0]["id"])
    email = {"to": ["ann@example.com"], "subject": "Hello", "text": "Hello", "send_at": in_a_month}
    things["email_id"].append(ask("POST", "/v1/emails", email, tenant)["id"])
    key = {"name": "a key", "scopes": ["read"]}
    things["key_id"].append(ask("POST", f"/v1/tenants/{tenant}/api-keys", key)["id"])

end = time.monotonic() + DEADLINE_SECONDS
while len(dead := ask("GET", "/v1/webhooks/dlq", tenant=tenant)["data"]) < 6:
    if time.monotonic() > end:
        sys.exit("the messages became no dead letters: does the worker run?")
    time.sleep(0.1)
things["dead_letter"] = [letter["id"] for letter in dead]

key, own = "", ""
if SCOPE == "platform":
    key = ROOT
elif SCOPE != "nobody":
    new = {"name": f"contract, {SCOPE}", "scopes": [SCOPE]}
    created = ask("POST", f"/v1/tenants/{tenant}/api-keys", new)
    key, own = created["key"], created["id"]
print(f"CONTRACT_KEY={key} CONTRACT_TENANT={tenant} CONTRACT_OWN_KEYS={own}")
print("CONTRACT_THINGS=" + shlex.quote(json.dumps(things)))
