"""The rollout against real processes: a good canary goes to 100 %, one with a fault is rolled back by itself."""

import os
import re
import signal
import subprocess
import time
import unittest
from pathlib import Path
from urllib.parse import urlsplit

from deploy.tests.instance import Instance

DEADLINE = 60
ANALYSIS = Path("k8s/components/canary/analysis.yaml")
# Short, with limits so wide that a machine that is busy with other work does not break them; each fault is far beyond.
WATCHING = {
    "STEP_MINUTES": "0.01",
    "WINDOW_SECONDS": "1",
    "PROBES_PER_SECOND": "30",
    "PROBE_TIMEOUT_SECONDS": "5",
    "THRESHOLD": "10",
    "BASELINE_MAX_ERRORS": "20",
    "LATENCY_SLACK_MS": "1000",
    "LATENCY_MAX_MS": "2000",
}


class Drill(Instance):
    def setUp(self):
        super().setUp()
        self.calls = self.folder / "calls"
        self.calls.touch()
        self.fault = self.folder / "fault"
        self.fault.write_text("none", encoding="utf-8")

    def spoiled(self) -> str:
        """The stable API behind a proxy that does what self.fault says."""
        return f"http://127.0.0.1:{self.proxy(urlsplit(self.stable).port, self.fault)}"

    def hooks(self, at_weight="") -> dict:
        """Hooks that keep what they are called with; `at_weight` is shell code with the weight in $1."""
        return {
            "WEIGHT_CMD": f'record() {{ echo "$1" >>{self.calls}; {at_weight or ":"}; }}; record',
            "ROLLBACK_CMD": f"record() {{ echo rollback >>{self.calls}; }}; record",
            "PROMOTE_CMD": f"echo promote >>{self.calls};:",
        }

    def settings(self, canary: str, **more) -> dict:
        return {
            **os.environ,
            **WATCHING,
            **self.hooks(),
            "STABLE_URL": self.stable,
            "CANARY_URL": canary,
            "API_KEY": self.key,
            **more,
        }

    def run_command(self, command: str, settings: dict):
        done = subprocess.run(
            ["scripts/deployment", command], env=settings, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        return done.returncode, self.calls.read_text(encoding="utf-8").split(), done.stdout + done.stderr

    def expect(self, code: int, calls: list, canary: str, **more):
        found = self.run_command("rollout", self.settings(canary, **more))
        self.assertEqual(found[:2], (code, calls), found[2])
        return found[2]

    def fault_at_25(self, fault: str) -> dict:
        return self.hooks(f'[ "$1" != 25 ] || echo {fault} >{self.fault}')

    def test_a_good_canary_goes_to_100_and_is_promoted(self):
        self.expect(0, ["5", "25", "50", "100", "promote"], self.api(), PROBE_PUBLISH="1")

    def test_a_canary_whose_database_goes_away_is_rolled_back(self):
        database = urlsplit(os.environ["DATABASE_URL"])
        relay = self.proxy(database.port, self.fault, "tcp")
        canary = self.api(DATABASE_URL=os.environ["DATABASE_URL"].replace(f":{database.port}/", f":{relay}/"))
        self.expect(1, ["5", "25", "rollback"], canary, PROBE_PUBLISH="1", **self.fault_at_25("cut"))

    def test_a_canary_that_fails_now_and_then_is_rolled_back(self):
        output = self.expect(1, ["5", "25", "rollback"], self.spoiled(), **self.fault_at_25("error=3"))
        self.assertIn("breach: errors", output)

    def test_a_canary_that_becomes_slow_is_rolled_back(self):
        output = self.expect(1, ["5", "25", "rollback"], self.spoiled(), **self.fault_at_25("slow=2.5"))
        self.assertIn("breach: latency", output)

    def test_a_canary_that_hangs_or_drips_is_rolled_back(self):
        for fault in ("hang", "drip"):
            with self.subTest(fault):
                self.setUp()
                output = self.expect(
                    1, ["5", "25", "rollback"], self.spoiled(), PROBE_TIMEOUT_SECONDS="2", **self.fault_at_25(fault)
                )
                self.assertIn("no complete answer", output)

    def test_another_service_at_the_address_never_gets_traffic(self):
        self.fault.write_text("page", encoding="utf-8")
        self.expect(1, ["rollback"], self.spoiled())

    def test_a_canary_without_an_address_or_a_port_never_gets_traffic(self):
        for address in ("http://canary.invalid:3000", "http://127.0.0.1:9"):
            with self.subTest(address):
                self.setUp()
                self.expect(1, ["rollback"], address)

    def test_a_baseline_that_hangs_alone_holds_and_moves_nothing_more(self):
        stable = self.spoiled()
        self.expect(
            3, ["5", "25"], self.api(), STABLE_URL=stable, PROBE_TIMEOUT_SECONDS="2", **self.fault_at_25("hang")
        )

    def test_a_rollback_that_fails_is_told_apart(self):
        hooks = {
            **self.fault_at_25("page"),
            "ROLLBACK_CMD": f"echo rollback >>{self.calls}; exit 7;",
            "ROLLBACK_PAUSE_SECONDS": "0.1",
        }
        self.expect(4, ["5", "25", "rollback", "rollback", "rollback"], self.spoiled(), **hooks)

    def test_a_weight_command_that_hangs_is_ended_and_rolled_back(self):
        hooks = {**self.hooks('[ "$1" != 50 ] || sleep 3600'), "HOOK_TIMEOUT_SECONDS": "1"}
        self.expect(1, ["5", "25", "50", "rollback"], self.spoiled(), **hooks)

    def test_a_rollout_that_is_told_to_stop_rolls_back(self):
        settings = self.settings(self.spoiled(), STEP_MINUTES="10")
        process = self.spawn(["scripts/deployment", "rollout"], env=settings)
        self.wait_for_calls(["5"])
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(DEADLINE), 1)
        self.assertEqual(self.calls.read_text(encoding="utf-8").split(), ["5", "rollback"])

    def wait_for_calls(self, calls):
        end = time.monotonic() + DEADLINE
        while self.calls.read_text(encoding="utf-8").split() != calls:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def test_settings_that_cannot_judge_are_refused_before_anything_moves(self):
        for wrong in ({"THRESHOLD": "0.1"}, {"CANARY_URL": self.stable}, {"STEPS": "5 25"}, {"API_KEY": ""}):
            with self.subTest(wrong):
                settings = {**self.settings("http://127.0.0.1:9"), **wrong}
                code, calls, output = self.run_command("rollout", settings)
                self.assertEqual((code, calls), (2, []), output)
                self.assertIn(next(iter(wrong)) if "THRESHOLD" not in wrong else "PROBES_PER_SECOND", output)

    def test_the_monitor_ends_well_with_a_good_version(self):
        code, calls, output = self.run_command("monitor", self.settings(self.api(), MINUTES="0.05"))
        self.assertEqual((code, calls), (0, []), output)

    def test_the_monitor_rolls_back_a_version_that_breaks_later(self):
        for baseline in (self.stable, ""):
            with self.subTest(baseline):
                self.setUp()
                settings = self.settings(self.spoiled(), MINUTES="10", STABLE_URL=baseline)
                process = self.spawn(["scripts/deployment", "monitor"], env=settings)
                while "canary" not in process.stdout.readline():
                    self.assertIsNone(process.poll())
                self.fault.write_text("error=3", encoding="utf-8")
                self.assertEqual(process.wait(DEADLINE), 1)
                self.assertEqual(self.calls.read_text(encoding="utf-8").split(), ["rollback"])

    def test_the_job_of_the_kubernetes_canary_fails_for_a_canary_that_answers_500_to_everything(self):
        self.fault.write_text("error=1", encoding="utf-8")
        for canary, code in ((self.api(), 0), (self.spoiled(), 1)):
            with self.subTest(code):
                settings = {**self.job_settings(canary), **WATCHING, "MINUTES": "0.05"}
                found, _, output = self.run_command("monitor", settings)
                self.assertEqual(found, code, output)

    def job_settings(self, canary: str) -> dict:
        """The environment of the Job, whose arguments and secrets are filled in."""
        text = ANALYSIS.read_text(encoding="utf-8")
        given = dict(re.findall(r'- name: (\w+)\n +value: "(.*)"', text))
        secrets = re.findall(r"- name: (\w+)\n +valueFrom:", text)
        self.assertEqual(secrets, ["API_KEY", "HEALTH_KEY"])
        arguments = {"{{args.stable}}": self.stable, "{{args.canary}}": canary}
        filled = {name: arguments.get(value, value) for name, value in given.items()}
        # Nothing else of this process is in the Job.
        base = {"PATH": os.environ["PATH"], "API_KEY": self.key, "HEALTH_KEY": os.environ["HEALTH_KEY"]}
        return {**base, **filled}


if __name__ == "__main__":
    unittest.main()
