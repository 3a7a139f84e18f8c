"""The main job, end to end: a webhook to a receiver of our own, one that is retried, and a mail to the catcher."""

import json
import secrets
from urllib.parse import urlsplit

from deploy import client, options
from deploy.context import Context
from deploy.receiver import Receiver
from deploy.service import wait_until
from deploy.table import CheckFailed, CheckSkipped

EVENT = "preflight.checked"
RETRY_AFTER_SECONDS = 1


def run(context: Context) -> None:
    table = context.table
    patience = options.number("PREFLIGHT_PATIENCE_SECONDS", 30, 1, 600)
    found = {}
    table.check("delivery", "endpoint at a receiver of our own", lambda: endpoint(context, found))
    table.check("delivery", "a message arrives, signed", lambda: delivered(context, found, patience))
    table.check("delivery", "a 500 is retried", lambda: retried(context, found, patience))
    table.check("delivery", "a mail arrives", lambda: mail(context, patience))


def endpoint(context: Context, found: dict) -> str:
    service = context.writer()
    host = options.text("RECEIVER_HOST")
    if not host and options.is_loopback(context.base_url):
        host = "127.0.0.1"
    url = options.text("RECEIVER_URL")
    if not host and not url:
        raise CheckSkipped("needs RECEIVER_URL, an address at which the workers reach this machine, and RECEIVER_PORT")
    path = f"/preflight/{secrets.token_hex(16)}"
    # Beyond this machine only when the workers are.
    bind = "127.0.0.1" if host == "127.0.0.1" and not url else "0.0.0.0"
    prefix = urlsplit(options.base_url("RECEIVER_URL", url)).path if url else ""
    receiver = Receiver(bind, int(options.number("RECEIVER_PORT", 0, 0, 65535)), prefix + path)
    context.cleanup("the receiver", receiver.close)
    base = url.rstrip("/") if url else f"http://{host}:{receiver.port}"
    made = service.post(
        "/v1/endpoints",
        {
            "url": base + path,
            "description": "made and removed by preflight",
            "event_types": [EVENT],
            # Only messages of this run come here, even if another one runs at the same time.
            "channels": [path.rsplit("/", 1)[1]],
            "retry_schedule": [RETRY_AFTER_SECONDS] * 3,
        },
    )
    context.cleanup(
        f"endpoint {made['id']}", lambda: service.call("DELETE", f"/v1/endpoints/{made['id']}", (200, 202, 204))
    )
    receiver.secret = made["secret"]
    found.update(receiver=receiver, channel=path.rsplit("/", 1)[1])
    return base


def delivered(context: Context, found: dict, patience: float) -> str:
    receiver = ready(found)
    message, payload = publish(context, found)
    receipt = receive(context, receiver, message, patience)
    if json.loads(receipt.body) != payload:
        raise CheckFailed("the body is not the published payload")
    wait_for_state(context, message, "delivered", 1, patience)
    return message


def retried(context: Context, found: dict, patience: float) -> str:
    receiver = ready(found)
    receiver.failures = 1
    message, _ = publish(context, found)
    first = receive(context, receiver, message, patience)
    if first.status != 500:
        raise CheckFailed("the first attempt was not the one that was answered with 500")
    second = receive(context, receiver, message, patience)
    if second.webhook_id != first.webhook_id:
        raise CheckFailed("the second attempt has another webhook-id")
    wait_for_state(context, message, "delivered", 2, patience)
    return "after one retry"


def ready(found: dict) -> Receiver:
    if "receiver" not in found:
        raise CheckSkipped("there is no endpoint")
    return found["receiver"]


def publish(context: Context, found: dict):
    payload = {"check": secrets.token_hex(8)}
    body = {"event_type": EVENT, "payload": payload, "channels": [found["channel"]]}
    headers = {"Idempotency-Key": f"preflight-{payload['check']}"}
    return context.writer().post("/v1/messages", body, (201,), headers)["id"], payload


def receive(context: Context, receiver: Receiver, message: str, patience: float):
    receipt = receiver.next(patience)
    if receipt is None:
        raise CheckFailed(f"nothing came within {patience:g} s: {attempts(context, message)}")
    if receipt.fault:
        raise CheckFailed(receipt.fault)
    return receipt


def delivery(context: Context, message: str) -> dict:
    deliveries = context.writer().get(f"/v1/messages/{message}").get("deliveries") or [{}]
    return deliveries[0]


def attempts(context: Context, message: str) -> str:
    """Why the service says that it did not arrive."""
    found = delivery(context, message)
    if "id" not in found:
        return "the message has no delivery"
    tried = context.writer().get(f"/v1/deliveries/{found['id']}/attempts").get("data", [])
    last = f", the last attempt was {tried[0].get('error_class') or tried[0].get('outcome')}" if tried else ""
    return f"the delivery is {found.get('status')} after {len(tried)} attempts{last}"


def wait_for_state(context: Context, message: str, status: str, count: int, patience: float) -> None:
    def reached():
        found = delivery(context, message)
        return found.get("status") == status and found.get("attempt_count") == count

    if not wait_until(patience, reached):
        raise CheckFailed(f"expected {status} after {count} attempts: {attempts(context, message)}")


def mail(context: Context, patience: float) -> str:
    service = context.writer()
    if not context.mail_url:
        raise CheckSkipped("needs MAIL_URL, a mail catcher with Mailpit's API")
    subject = f"preflight {secrets.token_hex(8)}"
    sent = service.post(
        "/v1/emails", {"to": ["preflight@example.com"], "subject": subject, "text": "It works."}, (201,)
    )
    caught = wait_until(patience, lambda: find_mail(context.mail_url, subject))
    if not caught:
        states = [found.get("status") for found in service.get(f"/v1/emails/{sent['id']}").get("deliveries", [])]
        raise CheckFailed(f"it is not at {context.mail_url} after {patience:g} s; the service says {states}")
    context.cleanup("the mail", lambda: mail_call(context.mail_url, "DELETE", "/api/v1/messages", {"IDs": [caught]}))
    return sent["id"]


def find_mail(mail_url: str, subject: str):
    listed = mail_call(mail_url, "GET", "/api/v1/messages?limit=50").json() or {}
    return next((found["ID"] for found in listed.get("messages", []) if found.get("Subject") == subject), None)


def mail_call(mail_url: str, method: str, path: str, body=None) -> client.Answer:
    try:
        answer = client.request(method, mail_url.rstrip("/") + path, body=body)
    except client.NoAnswer as error:
        raise CheckFailed(f"the mail catcher {mail_url}: {error}") from None
    if answer.status != 200:
        raise CheckFailed(f"the mail catcher {mail_url} {answer.why()}")
    return answer
