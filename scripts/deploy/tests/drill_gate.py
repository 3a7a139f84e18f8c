"""The gate against real processes: it opens for a sound production instance, and names what is wrong with another."""

import base64
import os
import secrets
import subprocess
import unittest

from deploy.tests.instance import Instance

ORIGIN = "https://app.example.org"


class Gate(Instance):
    def production(self, **wrong) -> dict:
        """The settings of a sound production instance on the running database, changed by `wrong`; None leaves one out."""
        kept = ("DATABASE_URL", "REDIS_URL", "ROOT_API_KEY", "ENCRYPTION_KEYS", "EMAIL_PROVIDERS")
        settings = {
            **{name: os.environ[name] for name in kept},
            "APP_ENV": "production",
            "JWT_SECRET": base64.b64encode(secrets.token_bytes(48)).decode(),
            "CORS_ORIGINS": ORIGIN,
            "PUBLIC_URL": "https://relaypost.example.org",
            "RATE_LIMIT_REDIS_URL": os.environ["REDIS_URL"],
            "WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
            "WEBHOOK_ALLOW_HTTP": "true",
            **wrong,
        }
        return {name: value for name, value in settings.items() if value is not None}

    def gate(self, base_url: str, settings: dict, **more):
        env_file = self.folder / "production.env"
        env_file.write_text("".join(f"export {name}='{value}'\n" for name, value in settings.items()), encoding="utf-8")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "CARGO_TARGET_DIR": os.environ["CARGO_TARGET_DIR"],
            "BASE_URL": base_url,
            "ENV_FILE": str(env_file),
            "ALLOW_HTTP": "1",
            "TENANT_KEY": self.key,
            "PROCESSES": "6",
            "DATABASE_MAX_CONNECTIONS": "300",
            "MEMORY_LIMIT_MB": "512",
            "TERMINATION_GRACE_SECONDS": "45",
            "PRESTOP_SECONDS": "10",
            **more,
        }
        done = subprocess.run(
            ["scripts/deployment", "gate"], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def test_a_sound_production_instance_opens_the_gate(self):
        settings = self.production()
        code, output = self.gate(self.api(**settings), settings)
        self.assertEqual(code, 0, output)
        self.assertIn(" 0 failed", output)
        self.assertRegex(output, r"a message arrives, signed +ok")

    def test_a_development_instance_keeps_it_shut(self):
        code, output = self.gate(self.stable, self.production())
        self.assertEqual(code, 1, output)
        for row in ("served: HSTS", "served: CORS: CORS_ORIGINS", "served: demo sign-in is off"):
            self.assertIn(f"failed: {row}", output)

    def test_settings_that_are_weak_or_too_large_keep_it_shut(self):
        base_url = self.api(**self.production())
        for wrong, row in (
            ({"JWT_SECRET": "changeme-changeme-changeme-changeme"}, "API: check-config"),
            ({"ENCRYPTION_KEYS": None}, "API: check-config"),
            ({"APP_ENV": "development"}, "production"),
            ({"EMAIL_PROVIDERS": None}, "mails leave"),
            ({"RATE_LIMIT_REDIS_URL": None}, "rate limits for all processes"),
            ({"DATABASE_CONNECTIONS": "100"}, "database connections sized"),
            ({"ARGON2_CONCURRENCY": "64"}, "memory of password hashing sized"),
            ({"SHUTDOWN_GRACE_SECONDS": "40"}, "time to stop sized"),
        ):
            with self.subTest(wrong):
                # Only the settings are looked at: the smoke test has its own test above.
                code, output = self.gate(base_url, self.production(**wrong), TENANT_KEY="")
                self.assertEqual(code, 1, output)
                self.assertIn(f"failed: settings: {row}", output)

    def test_no_answer_is_never_an_open_gate(self):
        code, output = self.gate("http://127.0.0.1:9", self.production())
        self.assertEqual(code, 1, output)
        self.assertIn("connection refused", output)

    def test_secrets_are_never_printed(self):
        settings = self.production()
        _, output = self.gate(self.stable, settings)
        for name in ("ROOT_API_KEY", "ENCRYPTION_KEYS", "JWT_SECRET"):
            self.assertNotIn(settings[name], output)
        self.assertNotIn(self.key, output)


if __name__ == "__main__":
    unittest.main()
