"""Pieces of Markdown: escaped names, numbers, tables, code."""

import re

__all__ = [
    "count",
    "details",
    "escape",
    "fenced",
    "listed",
    "number",
    "slug",
    "table",
]

# A backslash does not protect these in every dialect.
_ENTITIES = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "|": "&#124;",
    "~": "&#126;",
    "$": "&#36;",
}


def escape(text):
    """Returns text that Markdown shows as it is, on one line."""
    text = " ".join(str(text).split())
    text = re.sub(r"([\\`*{}\[\]#])", r"\\\1", text)
    # `color_crop` needs none, `_name_` does.
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
    # What would begin a list.
    text = re.sub(r"^(\d+[.)]|[-+])(?= |$)", _escape_last, text)
    return re.sub(r"[&<>|~$]", lambda match: _ENTITIES[match[0]], text)


def _escape_last(match):
    return f"{match[0][:-1]}\\{match[0][-1]}"


def count(value):
    """Returns an integer with thousands separated, a dash for `None`."""
    return "–" if value is None else f"{value:,}"


def number(value, digits=4):
    """Returns a number with so many significant digits; a dash for `None`."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return escape(value)
    if isinstance(value, int):
        return count(value)
    return f"{value:.{digits}g}"


def listed(words):
    """Returns `a, b and c`."""
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last


def slug(text, taken=()):
    """Returns a file name's stem for a name, different from those taken."""
    stem = re.sub(r"[^a-z0-9_]+", "-", str(text).lower()).strip("-") or "x"
    name, index = stem, 1
    while name in taken:
        index += 1
        name = f"{stem}-{index}"
    return name


def table(header, rows, numeric=True):
    """Returns a Markdown table.

    Args:
        header: Markdown of the columns' names.
        rows: Lists of Markdown, as long as `header`.
        numeric: Whether all columns but the first are aligned right.
    """
    rule = ["---", *(["---:" if numeric else "---"] * (len(header) - 1))]
    lines = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fenced(text, language=""):
    """Returns a block of code that its content cannot end."""
    longest = max(map(len, re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def details(summary, body):
    """Returns a block that opens on a click; `summary` is escaped here."""
    return (
        f'<details markdown="1">\n<summary>{escape(summary)}</summary>\n\n'
        f"{body}\n\n</details>"
    )
