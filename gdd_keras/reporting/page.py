"""The report as one HTML file that loads nothing."""

import base64
import html
import re
import struct

import markdown
from markdown.extensions.fenced_code import FencedCodeExtension
from markdown.extensions.md_in_html import MarkdownInHtmlExtension
from markdown.extensions.sane_lists import SaneListExtension
from markdown.extensions.tables import TableExtension
from markdown.extensions.toc import TocExtension

from gdd_keras.reporting.stylesheet import STYLESHEET

__all__ = ["build_page"]

# Nothing but what the file itself holds; no script at all.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_SMALL_WIDTH = 340
_IMAGE = re.compile(r'<img alt="([^"]*)" src="figures/([^"]+)" ?/?>')


def build_page(document):
    """Converts a report to HTML.

    Args:
        document: `Document`.

    Returns:
        Text of one self-contained file.
    """
    converter = markdown.Markdown(
        extensions=[
            FencedCodeExtension(),
            MarkdownInHtmlExtension(),
            SaneListExtension(),
            TableExtension(),
            TocExtension(toc_depth="2-2"),
        ],
        output_format="html",
    )
    body = converter.convert(document.markdown)
    body = re.sub(
        r"<table>.*?</table>",
        lambda match: f'<div class="wide" tabindex="0">{match[0]}</div>',
        body,
        flags=re.DOTALL,
    )
    body = _IMAGE.sub(lambda match: _embed(document, *match.groups()), body)
    heading, rest = body.split("</h1>", 1)
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{html.escape(document.title)}</title>
<style>
{STYLESHEET}</style>
</head>
<body>
<main>
{heading}</h1>
<nav aria-label="Sections">{converter.toc}</nav>
{rest}
</main>
</body>
</html>
"""


def _embed(document, alt, file):
    """Returns an image's own element, its content inside."""
    if file in document.inline:
        svg = _with_own_ids(document.inline[file], file.removesuffix(".svg"))
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
        return f'<span class="wide" tabindex="0">{svg.strip()}</span>'
    png = document.files[file]
    content = base64.b64encode(png).decode()
    return (
        f'<img alt="{alt}" width="{_shown_width(png)}" '
        f'src="data:image/png;base64,{content}">'
    )


def _shown_width(png):
    """Returns the width of a PNG, up to tripled while it stays small."""
    (width,) = struct.unpack(">I", png[16:20])
    return width * max(1, min(3, _SMALL_WIDTH // width))


def _with_own_ids(svg, name):
    """Keeps the names inside a drawing apart from those of others."""
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    return re.sub(r"url\(#", f"url(#{name}-", svg)
