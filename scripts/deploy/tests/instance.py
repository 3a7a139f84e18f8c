"""A running instance and more processes beside it, for tests.

scripts/test-deploy starts it and says in the environment what .relaypost-up/env holds, and DRILL_API, the API's program.
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from deploy.service import Service

HERE = Path(__file__).resolve().parent


class Instance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stable = os.environ["BASE_URL"]
        platform = Service(cls.stable, os.environ["API_KEY"])
        tenant = platform.post("/v1/tenants", {"name": "drill"})
        scopes = ["read", "send", "manage"]
        cls.key = platform.post(f"/v1/tenants/{tenant['id']}/api-keys", {"name": "drill", "scopes": scopes})["key"]

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def spawn(self, command, **options):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def proxy(self, port: int, fault: Path, *kind) -> int:
        """The port of tests/fault_proxy.py before `port`."""
        process = self.spawn([sys.executable, str(HERE / "fault_proxy.py"), str(port), str(fault), *kind])
        return int(process.stdout.readline())

    def api(self, **settings) -> str:
        """One more API process, and where it listens."""
        environment = {**os.environ, "BIND_ADDR": "127.0.0.1:0", "LOG": "error", **settings}
        process = self.spawn([os.environ["DRILL_API"]], env=environment, cwd=self.folder, stderr=subprocess.DEVNULL)
        return process.stdout.readline().removeprefix("listening on ").strip()
