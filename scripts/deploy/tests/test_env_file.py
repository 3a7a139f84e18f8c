import tempfile
import unittest
from pathlib import Path

from deploy.env_file import read_env_file
from deploy.table import CheckFailed


class EnvFile(unittest.TestCase):
    def read(self, text: str) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "settings"
            file.write_bytes(text.encode())
            return read_env_file(str(file))

    def value(self, text: str) -> str:
        return self.read(f"NAME={text}\n")["NAME"]

    def test_a_hash_within_a_value_is_part_of_it(self):
        self.assertEqual(self.value("abcdefgh#ijkl"), "abcdefgh#ijkl")
        self.assertEqual(self.value("'abcd #efgh'"), "abcd #efgh")
        self.assertEqual(self.value('"abcd #efgh"'), "abcd #efgh")

    def test_a_hash_at_the_start_of_a_line_or_after_a_blank_begins_a_comment(self):
        self.assertEqual(self.read("# NAME=1\n  # NAME=2\n\nNAME=3 # NAME=4\n"), {"NAME": "3"})
        self.assertEqual(self.value("'a b' # c 'd"), "a b")
        self.assertEqual(self.value("#none"), "")
        self.assertEqual(self.value("\t# none"), "")

    def test_backslashes_stay(self):
        self.assertEqual(self.value(r"postgres://relaypost:a\b@db/relaypost"), r"postgres://relaypost:a\b@db/relaypost")
        self.assertEqual(self.value(r"'a\b'"), r"a\b")
        self.assertEqual(self.value(r'"a\b"'), r"a\b")

    def test_a_value_with_blanks_needs_no_quotes(self):
        self.assertEqual(self.value("Relaypost <relaypost@example.com>"), "Relaypost <relaypost@example.com>")
        self.assertEqual(self.value("it's  one \r"), "it's  one")

    def test_quoted_values_are_words_of_a_shell(self):
        self.assertEqual(self.value(r"'it'\''s one'"), "it's one")
        self.assertEqual(self.value(r'"say \"a\\b\" for \$5"'), r'say "a\b" for $5')
        self.assertEqual(self.value("''"), "")
        self.assertEqual(self.read("export NAME='a b'\nexport\tOTHER=c\n"), {"NAME": "a b", "OTHER": "c"})

    def test_lines_that_a_shell_would_read_otherwise_are_refused(self):
        for line in (r"export NAME=se\cret", "export NAME=se cret", "export NAME=se'cret'"):
            with self.subTest(line), self.assertRaisesRegex(CheckFailed, "line 1: NAME: .*single quotes") as caught:
                self.read(line)
            self.assertNotIn("cret", str(caught.exception))

    def test_broken_lines_are_named_without_their_value(self):
        for line in ("NAME='secret", 'NAME="secret', "NAME='secret' more", "secret", "2NAME=secret", "NAME =secret"):
            with self.subTest(line), self.assertRaisesRegex(CheckFailed, "line 2: ") as caught:
                self.read(f"OTHER=1\n{line}\n")
            self.assertNotIn("secret", str(caught.exception))

    def test_the_settings_of_the_kubernetes_base_are_read(self):
        settings = read_env_file("k8s/base/settings.env")
        self.assertEqual(settings["APP_ENV"], "production")


if __name__ == "__main__":
    unittest.main()
