"""Finds what only the store may hold in all files of the repository that are not excepted: python3 check.py

Prints every finding and exits 1 if there is one, if an exception is not needed any more, or if the check itself takes a
sample for what it is not.
"""

import pathlib
import subprocess
import sys

import rules

HERE = pathlib.Path(__file__).parent
LANGUAGES = {
    ".rs": "rust",
    ".sql": "dashes",
    ".sh": "hash",
    ".py": "hash",
    ".yml": "hash",
    ".yaml": "hash",
    ".mjs": "slashes",
    ".js": "slashes",
    ".ts": "slashes",
}


def language_of(path, text):
    """How the file's comments look; none for what is no program: documents and data."""
    if path.name == "Makefile" or (not path.suffix and text.startswith("#!")):
        return "hash"
    return LANGUAGES.get(path.suffix)


def exceptions():
    """The paths of exceptions.txt; a line is a path, spaces and the reason."""
    lines = (HERE / "exceptions.txt").read_text().splitlines()
    paths = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    for path in paths:
        if len(path) != 2:
            sys.exit(f"store-wall: exceptions.txt: no reason: {path[0]}")
    return [path for path, _ in paths]


def files():
    """The files of the repository: those that are committed, and those that could be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True, capture_output=True, text=True
    )
    paths = (pathlib.Path(name) for name in sorted(set(listed.stdout.split("\0"))) if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def findings():
    """Every finding, and the exceptions that were needed for one."""
    excepted, needed, problems = exceptions(), set(), []
    for path in files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        language = language_of(path, text)
        found = rules.in_file(text, language) if language else []
        exception = next((one for one in excepted if path.as_posix().startswith(one)), None)
        if exception is None:
            problems += [f"{path}:{line}: {what} outside of the store" for line, what in found]
        elif found:
            needed.add(exception)
    problems += [f"exceptions.txt: {path} is no exception any more" for path in excepted if path not in needed]
    return problems


def samples():
    """The samples of samples.txt: (what, language, text). Each begins with a line `==== bad|good LANGUAGE: what`."""
    for sample in (HERE / "samples.txt").read_text().split("\n==== ")[1:]:
        head, _, text = sample.partition("\n")
        kind, language = head.split(":")[0].split()
        yield kind, language, head, text


def misjudged():
    """The samples that the check takes for what they are not: a bad one has a finding, a good one none."""
    judged = set()
    for kind, language, head, text in samples():
        judged.add((kind, language))
        found = rules.in_file(text, language)
        if (kind == "bad") != bool(found):
            yield f"samples.txt: {head}: {found or 'nothing was found'}"
    for language in sorted({"rust", *LANGUAGES.values()}):
        if not {("bad", language), ("good", language)} <= judged:
            yield f"samples.txt: no bad and good samples of the language {language}"


problems = [*misjudged(), *findings()]
for problem in problems:
    print(problem)
if problems:
    sys.exit(f"store-wall: {len(problems)} findings; only shared/src/store reads and writes {', '.join(rules.TABLES)}")
print("store-wall: ok")
