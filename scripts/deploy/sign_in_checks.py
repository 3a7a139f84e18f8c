"""A person signs in, is known, exchanges the refresh token, and signs out."""

import secrets

from deploy import options
from deploy.context import Context
from deploy.service import Service
from deploy.table import CheckFailed, CheckSkipped


def run(context: Context) -> None:
    table = context.table
    found = {}
    table.check("sign-in", "a user", lambda: user(context, found))
    table.check("sign-in", "log in", lambda: log_in(context, found))
    table.check("sign-in", "/v1/auth/me", lambda: me(context, found))
    table.check("sign-in", "refresh", lambda: refresh(context, found))
    table.check("sign-in", "log out", lambda: log_out(context, found))


def user(context: Context, found: dict) -> str:
    """The user of SIGN_IN_EMAIL and SIGN_IN_PASSWORD, or one that is made and deleted."""
    email, password = options.text("SIGN_IN_EMAIL"), options.text("SIGN_IN_PASSWORD")
    if email and password:
        found.update(email=email, password=password)
        return "SIGN_IN_EMAIL was given"
    if not context.may_write or not context.api_key:
        raise CheckSkipped("needs SIGN_IN_EMAIL and SIGN_IN_PASSWORD, or a platform key and PREFLIGHT_WRITE=1")
    found.update(email=f"preflight-{secrets.token_hex(6)}@example.com", password=secrets.token_urlsafe(24))
    made = context.platform.post("/v1/users", {"email": found["email"], "password": found["password"]})
    found["made"] = True
    context.cleanup(
        f"user {made['id']}", lambda: context.platform.call("DELETE", f"/v1/users/{made['id']}", (200, 202, 204))
    )
    return ""


def log_in(context: Context, found: dict) -> str:
    if "email" not in found:
        raise CheckSkipped("there is no user")
    credentials = {"email": found["email"], "password": found["password"]}
    answer = context.nobody.raw("POST", "/v1/auth/login", credentials)
    if answer.status == 403 and found.get("made"):
        # AUTH_EMAIL_VERIFICATION_REQUIRED: nobody reads the mails of a user that was made up.
        raise CheckSkipped(f"needs SIGN_IN_EMAIL and SIGN_IN_PASSWORD of a verified user: {answer.why()}")
    if answer.status != 200:
        raise CheckFailed(f"POST /v1/auth/login {answer.why()}")
    tokens = Service.json(answer, "/v1/auth/login")
    found.update(access=tokens["access_token"], refresh=tokens["refresh_token"])
    return ""


def signed_in(context: Context, found: dict) -> Service:
    if "access" not in found:
        raise CheckSkipped("nobody is signed in")
    return Service(context.base_url, found["access"])


def me(context: Context, found: dict) -> str:
    body = signed_in(context, found).get("/v1/auth/me")
    if str(body.get("email", "")).lower() != found["email"].lower():
        raise CheckFailed("it names somebody else")
    return ""


def refresh(context: Context, found: dict) -> str:
    signed_in(context, found)
    tokens = context.nobody.post("/v1/auth/refresh", {"refresh_token": found["refresh"]})
    found.update(access=tokens["access_token"], refresh=tokens["refresh_token"])
    return ""


def log_out(context: Context, found: dict) -> str:
    service = signed_in(context, found)
    service.call("POST", "/v1/auth/logout", (200, 204))
    used = context.nobody.raw("POST", "/v1/auth/refresh", {"refresh_token": found["refresh"]})
    if used.status != 401:
        raise CheckFailed(f"the refresh token is still good after it: {used.why()}")
    return ""
