import os
import re
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from deploy import gate_image
from deploy.table import CheckFailed


class ImageSize(unittest.TestCase):
    """On a machine whose only programs are those of the test, and apt-get, which must not be called."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.program("apt-get", f"touch {self.folder}/installed")
        for name in ("bash", "env", "timeout"):
            (self.folder / name).symlink_to(f"/usr/bin/{name}")
        patch = mock.patch.dict(os.environ, {"PATH": str(self.folder)})
        patch.start()
        self.addCleanup(patch.stop)
        os.environ.pop("ENGINE", None)

    def program(self, name: str, code: str) -> None:
        file = self.folder / name
        file.write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{code}\n", encoding="utf-8")
        file.chmod(0o755)

    def test_a_machine_without_an_engine_is_told_so_and_nothing_is_installed(self):
        with self.assertRaisesRegex(CheckFailed, "no docker or podman answers"):
            gate_image.size("relaypost-api:0.1.0", 140)
        self.assertFalse((self.folder / "installed").exists())

    def test_an_engine_that_hangs_is_given_up(self):
        (self.folder / "timeout").unlink()
        self.program("timeout", 'exec timeout 0.1 "${@:2}"')
        self.program("docker", "exec sleep 5")
        began = time.monotonic()
        with self.assertRaisesRegex(CheckFailed, "no docker or podman answers"):
            gate_image.size("relaypost-api:0.1.0", 140)
        self.assertLess(time.monotonic() - began, 4)

    def test_the_size_is_compared_with_the_limit(self):
        self.program("docker", "[[ $1 == info ]] || echo 120000001")
        self.assertEqual(gate_image.size("relaypost-api:0.1.0", 140), "121 MB")
        with self.assertRaisesRegex(CheckFailed, "121 MB, the limit is IMAGE_LIMIT_MB=120"):
            gate_image.size("relaypost-api:0.1.0", 120)

    def test_the_image_of_the_deployment_commands_has_the_libraries_that_they_source(self):
        sources = [Path("scripts/deployment"), *Path("scripts/deploy").glob("*.py")]
        text = "".join(source.read_text(encoding="utf-8") for source in sources)
        needed = set(re.findall(r"source (scripts/lib/\S+\.sh)", text))
        stage = Path("Dockerfile").read_text(encoding="utf-8").partition(" AS deploy\n")[2]
        self.assertIn("scripts/lib/images.sh", needed)
        self.assertEqual({path for path in needed if path not in stage}, set())


if __name__ == "__main__":
    unittest.main()
