import tempfile
import unittest
from pathlib import Path

from deploy.env_file import PLAIN, SHELL, read_env_file
from deploy.table import CheckFailed


class EnvFile(unittest.TestCase):
    def read(self, text, form: str = SHELL) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "settings"
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
            return read_env_file(str(file), form)

    def value(self, text: str, form: str = SHELL) -> str:
        return self.read(f"NAME={text}\n", form)["NAME"]

    def expect_refused(self, text, reason: str, form: str = SHELL):
        """`text` is the second line, and holds "cret" in its value."""
        line = text if isinstance(text, bytes) else text.encode()
        with self.subTest(text), self.assertRaisesRegex(CheckFailed, f"line 2: {reason}") as caught:
            self.read(b"OTHER=1\n" + line + b"\n", form)
        self.assertNotIn("cret", str(caught.exception))

    def test_a_hash_within_a_value_is_part_of_it(self):
        self.assertEqual(self.value("abcdefgh#ijkl"), "abcdefgh#ijkl")
        self.assertEqual(self.value("'abcd #efgh'"), "abcd #efgh")
        self.assertEqual(self.value('"abcd #efgh"'), "abcd #efgh")

    def test_a_hash_at_the_start_of_a_line_or_after_a_blank_begins_a_comment(self):
        self.assertEqual(self.read("# NAME=1\n  # NAME=2\n\nNAME=3 # NAME=4\n"), {"NAME": "3"})
        self.assertEqual(self.value("'a b' # c 'd"), "a b")
        self.assertEqual(self.value("\t# none; $(none)"), "")

    def test_quoted_values_are_read_without_their_quotes(self):
        self.assertEqual(self.value(r"""'say "a\b" for $5 & `more`; (all)'"""), r"""say "a\b" for $5 & `more`; (all)""")
        self.assertEqual(self.value(r'"it'"'"r's \"a\\b\" for \$5; (all)"'), r"""it's "a\b" for $5; (all)""")
        self.assertEqual(self.value("''"), "")
        self.assertEqual(self.value('"a b" \r'), "a b")

    def test_a_line_with_export_is_read_as_any_other(self):
        self.assertEqual(self.read("export NAME='a b'\nexport\tOTHER=c # d\n"), {"NAME": "a b", "OTHER": "c"})
        for value in ("se cret", "se&cret", '"se$cret"', "'se'cret"):
            self.expect_refused(f"export NAME={value}", "NAME: ")

    def test_unquoted_values_that_are_not_read_alike_are_refused(self):
        for special in (*"$`;&|<>(){}~\\'\" \t", " <", "$("):
            self.expect_refused(f"NAME=se{special}cret", "NAME: .*single quotes.*ENV_FILE_FORMAT=plain")
        for value in ("#cret", " cret", "\u00a0cret", "cret\u00a0"):
            self.expect_refused(f"NAME={value}", "NAME: .*single quotes")

    def test_double_quoted_values_that_are_not_read_alike_are_refused(self):
        for special in ("$", "`", r"\n", r"\`", r"\\$"):
            self.expect_refused(f'NAME="se{special}cret"', "NAME: .*use single quotes")

    def test_nothing_but_a_comment_follows_a_quoted_value(self):
        for value in ('"cret","cret"', "'cret'cret", r"'se'\''cret'", '"se"#cret', "'se' cret", "'se''cret'"):
            self.expect_refused(f"NAME={value}", "NAME: expected nothing but a comment after the closing quote")
        for value in ("'cret", '"cret', r'"cret\"'):
            self.expect_refused(f"NAME={value}", "NAME: the closing quote is missing")

    def test_lines_that_are_no_settings_are_refused(self):
        for line in ("secret", "2NAME=secret", "NAME =secret", "export secret", "export NAME", "unexport NAME=cret"):
            self.expect_refused(line, "expected NAME=VALUE")
        self.expect_refused(b"NAME=se\xe9cret", "expected UTF-8", SHELL)
        self.expect_refused(b"NAME=se\xe9cret", "expected UTF-8", PLAIN)
        self.expect_refused(b"# se\xe9cret", "expected UTF-8")
        self.expect_refused("NAME='se\0cret'", "expected text without NUL")

    def test_a_plain_file_is_taken_as_it_is(self):
        for value in (r"'a\b'", '"a" # b', "Relaypost <relaypost@example.com>", "a&b=$c ", "", "#a"):
            with self.subTest(value):
                self.assertEqual(self.value(value, PLAIN), value)
        self.assertEqual(self.read(" # NAME=1\r\n\r\n  NAME=a b\r\n", PLAIN), {"NAME": "a b"})
        self.expect_refused("export NAME=cret", "expected NAME=VALUE", PLAIN)

    def test_the_settings_of_the_kubernetes_base_are_read(self):
        for form in (SHELL, PLAIN):
            settings = read_env_file("k8s/base/settings.env", form)
            self.assertEqual(settings["APP_ENV"], "production")


if __name__ == "__main__":
    unittest.main()
