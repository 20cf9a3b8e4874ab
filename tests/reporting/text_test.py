import html
import re

import markdown
import pytest
from markdown.extensions.fenced_code import FencedCodeExtension
from markdown.extensions.tables import TableExtension

from gdd_keras.reporting.text import count
from gdd_keras.reporting.text import details
from gdd_keras.reporting.text import escape
from gdd_keras.reporting.text import fenced
from gdd_keras.reporting.text import listed
from gdd_keras.reporting.text import number
from gdd_keras.reporting.text import slug
from gdd_keras.reporting.text import table

NAMES = [
    "color_crop",
    "_private_",
    "__init__",
    "a__b",
    "*bold* and **more**",
    "a|b",
    "<script>alert(1)</script>",
    "a & b &amp; c",
    "[link](javascript:alert)",
    "![image](x.png)",
    "`code`",
    r"back\slash",
    "# heading",
    "1. first",
    "- item",
    "+",
    "30.0",
    "-1.5",
    "$a$ ~~b~~",
    "日本",
]


def convert(text):
    return markdown.markdown(
        text, extensions=[TableExtension(), FencedCodeExtension()]
    )


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are(name):
    in_line = convert(f"A name, {escape(name)}, in a line.")
    assert html.unescape(in_line) == f"<p>A name, {name}, in a line.</p>"
    alone = convert(escape(name))
    assert html.unescape(alone) == f"<p>{name}</p>"
    in_table = convert(table(["x", escape(name)], [["1", escape(name)]]))
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", in_table)
    assert [html.unescape(c) for c in cells] == ["x", name, "1", name]
    assert "<script" not in in_table


def test_names_stay_on_one_line():
    assert escape("a\n\n# b\tc") == r"a \# b c"


def test_plain_names_stay_readable():
    for name in ("gdd", "convnet3", "color_crop", "saved_models/toy/1", "0.01"):
        assert escape(name) == name


def test_numbers():
    assert count(54_000) == "54,000"
    assert count(None) == number(None) == "–"
    assert number(54_000) == "54,000"
    assert number(0.01) == "0.01"
    assert number(12.3456) == "12.35"
    assert number(0.0) == "0"
    assert number(1.5e-7) == "1.5e-07"
    assert number(True) == "True"
    assert number("a|b") == "a&#124;b"


def test_listed():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_slug():
    assert slug("Gdd, ../../ω x") == "gdd-x"
    assert slug("日本") == "x"
    assert slug("a", {"a", "a-2"}) == "a-3"


def test_table():
    assert table(["a", "b"], [["c", "d"]]) == (
        "| a | b |\n| --- | ---: |\n| c | d |"
    )
    assert "---:" not in table(["a", "b"], [], numeric=False)


def test_code_cannot_end_its_block():
    code = "a\n```\n<b>\n````\nc"
    page = convert(f"{fenced(code, 'sh')}\n\nafter")
    inner = re.search(r"<code[^>]*>(.*?)</code>", page, re.DOTALL)[1]
    assert html.unescape(inner).strip() == code
    assert page.endswith("<p>after</p>")


def test_details_escapes_its_summary():
    assert "<summary>a&lt;b</summary>" in details("a<b", "body")
