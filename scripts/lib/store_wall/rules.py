"""What only the store may hold: statements on its tables, and its module `fixtures`, which only tests may use.

The entities need no rule: they are private to the store.
"""

import re

import source

TABLES = ("messages", "message_payloads", "emails", "email_bodies", "deliveries", "attempts", "circuits", "replays")

TABLE = rf'(?:"?\w+"?\s*\.\s*)?"?({"|".join(TABLES)})"?(?![\w"])'
ITEM = r'(?:"?\w+"?\s*\.\s*)?"?\w+"?(?:\s+(?:AS\s+)?\w+)?'
KEYWORD = r"\b(FROM|JOIN|INTO|UPDATE|TABLE|TRUNCATE|USING|LOCK|COPY|VACUUM|ANALYZE|REFERENCES)"
ON_TABLE = re.compile(
    # Of a list of tables, any.
    rf"{KEYWORD}\s+(?:ONLY\s+|TABLE\s+|IF\s+EXISTS\s+)*(?:{ITEM}\s*,\s*)*{TABLE}",
    re.IGNORECASE,
)
# An index, a trigger or a policy.
ON_OBJECT = re.compile(rf"\b(INDEX|TRIGGER|POLICY)\b[^;]*?\bON\s+(?:ONLY\s+)?{TABLE}", re.IGNORECASE)
# The name of the table comes from elsewhere.
OPEN_END = re.compile(r"\b(FROM|JOIN|INTO|UPDATE|TABLE|TRUNCATE)\s+(?:ONLY\s+)?(?:\{\w*\}|$)")
SQL_WORD = re.compile(r"\b(select|insert\s+into|delete\s+from|where|set|values|returning)\b", re.IGNORECASE)
SQL_COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)

IN_STORE = re.compile(r"\bstore\s*::\s*(fixtures\b|\*|\{)")
BY_PATH = re.compile(r"(?<!:)\bfixtures\s*::")
# An entity, or a name for a statement that is built.
NAMED = re.compile(r"(\btable_name\s*=|\bAlias::new\(|\bTableName\()\s*r?#*\"?$")
WORD = re.compile(r"\w+|\*")


def statements(text):
    """The statements on a table of the store in a text: (offset, table)."""
    text = SQL_COMMENT.sub(lambda comment: source.blank(comment[0]), text)
    for rule in (ON_TABLE, ON_OBJECT):
        for found in rule.finditer(text):
            # In prose no keyword is in capitals: "removed from messages".
            if found[1].isupper() or found[1].lower() == "join" or SQL_WORD.search(text):
                yield found.start(found.lastindex), found[found.lastindex].lower()


def tree(code, start):
    """The names at the first level of what follows a `::`: `a::b` has `a`, `{a, b::{c}}` has `a` and `b`: (offset, name)."""
    if start >= len(code) or code[start] != "{":
        word = WORD.match(code, start)
        return [(start, word[0])] if word else []
    names, depth, at, first = [], 0, start, False
    while at < len(code):
        word = WORD.match(code, at)
        if code[at] == "{":
            depth, first = depth + 1, depth == 0
        elif code[at] == "}":
            depth -= 1
            if depth == 0:
                break
        elif code[at] == "," and depth == 1:
            first = True
        elif word and depth == 1 and first:
            names.append((at, word[0]))
            first = False
        at = word.end() if word else at + 1
    return names


def fixtures(code):
    """Where code names the module of the store that is for tests: (offset, what)."""
    for found in IN_STORE.finditer(code):
        if found[1] == "{":
            names = tree(code, found.end() - 1)
            yield from ((at, "`store::fixtures`") for at, name in names if name in ("fixtures", "*"))
        else:
            yield found.start(1), f"`store::{found[1]}`"
    for found in BY_PATH.finditer(code):
        yield found.start(), "`fixtures::`"


def in_rust(text):
    """What of a Rust file only the store may hold: (offset, what)."""
    code, texts = source.rust(text)
    yield from fixtures(code)
    open_end = any(OPEN_END.search(held) for _, held in texts)
    for offset, held in texts:
        # Positions within a text with escapes are not exact; its beginning is.
        yield from ((offset, f"a statement on `{table}`") for _, table in statements(held))
        if held in TABLES and (open_end or NAMED.search(code[:offset])):
            yield offset, f"the table `{held}` for a statement"


def in_file(text, language):
    """The findings of a file: (line, what), each once."""
    if language == "rust":
        found = in_rust(text)
    else:
        found = ((at, f"a statement on `{table}`") for at, table in statements(source.plain(text, language)))
    return sorted({(text.count("\n", 0, at) + 1, what) for at, what in found})
