"""What of a source file is read: its code and its texts, without its comments."""

import re

# A text that follows `#`, as in r#"…"#, ends with as many.
RAW = re.compile(r'(?:br|cr|r)(#*)"')
TEXT = re.compile(r'[bc]?"')
CHARACTER = re.compile(r"b?'(?:\\(?:x[0-9A-Fa-f]{2}|u\{[0-9A-Fa-f_]+\}|.)|[^\\'\n])'")
ESCAPE = re.compile(r"\\(\n\s*|.)", re.DOTALL)


def blank(text):
    """As long as the text, and with its lines."""
    return "".join(char if char == "\n" else " " for char in text)


def block_comment_end(text, start):
    """Where the comment ends that begins at `start`; Rust nests them."""
    depth, at = 0, start
    for mark in re.finditer(r"/\*|\*/", text[start:]):
        depth += 1 if mark[0] == "/*" else -1
        at = start + mark.end()
        if depth == 0:
            return at
    return len(text)


def text_end(text, start):
    """Where the text ends whose first character is at `start`: the position of its closing quote."""
    at = start
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return min(at, len(text))


def meaning(text):
    """The text without escapes. A backslash at the end of a line joins it with the next."""

    def replaced(escape):
        return "" if escape[1].startswith("\n") else {"n": "\n", "t": "\t"}.get(escape[1], escape[1])

    return ESCAPE.sub(replaced, text)


def rust(text):
    """The code of a Rust file, in which comments and the insides of texts are blank, and its texts: (offset, text)."""
    code, texts, at = [], [], 0

    def keep(end):
        nonlocal at
        code.append(text[at:end])
        at = end

    def drop(end):
        nonlocal at
        code.append(blank(text[at:end]))
        at = end

    while at < len(text):
        word_before = at > 0 and (text[at - 1].isalnum() or text[at - 1] == "_")
        if text.startswith("//", at):
            end = text.find("\n", at)
            drop(len(text) if end < 0 else end)
        elif text.startswith("/*", at):
            drop(block_comment_end(text, at))
        elif not word_before and (raw := RAW.match(text, at)):
            keep(raw.end())
            end = text.find('"' + raw[1], at)
            end = len(text) if end < 0 else end
            texts.append((at, text[at:end]))
            drop(end)
            keep(min(end + 1 + len(raw[1]), len(text)))
        elif (quote := TEXT.match(text, at)) and (text[at] == '"' or not word_before):
            keep(quote.end())
            end = text_end(text, at)
            texts.append((at, meaning(text[at:end])))
            drop(end)
            keep(min(end + 1, len(text)))
        elif character := CHARACTER.match(text, at):
            drop(character.end())
        else:
            keep(at + 1)
    return "".join(code), texts


HASH = re.compile(r"(?:^|(?<=\s))#.*")
COMMENTS = {
    "hash": HASH,
    "dashes": re.compile(r"--.*"),
    "slashes": re.compile(r"/\*.*?\*/|(?:^|(?<=\s))//.*?$", re.DOTALL | re.MULTILINE),
}


def plain(text, comments):
    """Any other file without its comments, as long as it was."""
    if comments == "slashes":
        return COMMENTS[comments].sub(lambda found: blank(found[0]), text)
    lines = text.split("\n")
    return "\n".join(COMMENTS[comments].sub(lambda found: blank(found[0]), line) for line in lines)
