"""The settings of preflight, the permissions that follow from them, and the clean-up at the end."""

import signal
import sys

from deploy import options
from deploy.service import Service
from deploy.table import FAILED, CheckFailed, CheckSkipped, Row, Table


def end_on_signal() -> None:
    """SIGTERM and SIGHUP end the program as Ctrl-C does, with the clean-up."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))


class Context:
    def __init__(self, table: Table, base_url: str):
        self.table = table
        self.base_url = base_url
        self.api_key = options.text("API_KEY")
        self.tenant_key = options.text("TENANT_KEY")
        self.health_key = options.text("HEALTH_KEY")
        self.mail_url = options.text("MAIL_URL")
        self.worker_urls = [options.base_url("WORKER_URLS", url) for url in options.words("WORKER_URLS")]
        self.may_write = bool(self.tenant_key) or options.flag("PREFLIGHT_WRITE")
        if self.may_write and not (self.api_key or self.tenant_key):
            raise options.BadOption("API_KEY: missing: writing needs a platform key, or TENANT_KEY of a test tenant")
        self.nobody = Service(base_url)
        self.platform = Service(base_url, self.api_key)
        self.tenant = None
        """A client in the test tenant, after set_up."""
        self.tenant_id = options.text("TENANT_ID")
        self.lacks_tenant = False
        """Whether a list was refused because TENANT_ID is missing."""
        self._cleanups = []

    def mode(self) -> str:
        if not self.may_write:
            return "reading only (TENANT_KEY of a test tenant or PREFLIGHT_WRITE=1 allow more)"
        return "writing in a test tenant" if self.tenant_key else "writing as the platform, in a test tenant"

    def reader(self) -> Service:
        """A client that may read a tenant's lists."""
        if self.tenant:
            return self.tenant
        if not self.api_key:
            raise CheckSkipped("needs API_KEY, a key with the scope read")
        return Service(self.base_url, self.api_key, self.tenant_id)

    def writer(self) -> Service:
        if not self.may_write:
            raise CheckSkipped("writes; needs TENANT_KEY of a test tenant or PREFLIGHT_WRITE=1")
        if self.tenant is None:
            raise CheckSkipped("there is no test tenant (see set-up)")
        return self.tenant

    def cleanup(self, what: str, function) -> None:
        self._cleanups.append((what, function))

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        """Removes the newest first. A failed removal is a failed row, and the rest is removed all the same."""
        for what, function in reversed(self._cleanups):
            try:
                function()
            except CheckFailed as error:
                self.table.add(Row("clean-up", what, FAILED, str(error)))
        if self._cleanups and not self.table.rows[-1].area == "clean-up":
            self.table.check("clean-up", "everything that was made", lambda: f"{len(self._cleanups)} removed")
