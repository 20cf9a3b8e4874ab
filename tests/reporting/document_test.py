import html.parser
import json
import re

import pytest

from gdd_keras.reporting.curves import Curve
from gdd_keras.reporting.document import build_document
from gdd_keras.reporting.inputs import read_inputs
from gdd_keras.reporting.page import build_page

NASTY = "<script>alert('x')</script>|*_$`"
VOID = ("meta", "img", "br", "hr", "link", "input")


class Reader(html.parser.HTMLParser):
    """Collects elements; fails on those that are not closed."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def full(results, record, config, png, tmp_path_factory):
    """Material that has something for every section."""
    weights = {"dim": 0.0, "gdd": 50.0, NASTY: 0.1}
    records = [
        record(name, 0.5 + index / 10 + ipc / 1_000, ipc=ipc, protocol=protocol)
        for index, name in enumerate((*weights, "random"))
        for ipc in (1, 10)
        for protocol in ("stream", "fixed")
        if name != "random" or protocol == "fixed"
    ]
    records += [
        record("gdd", 0.6, network="vgg11"),
        record("full", 0.9, protocol="full_size"),
    ]
    content = results(
        records,
        generators=weights,
        quality=[{"method": "gdd", "split": "test", "precision": 0.5}],
        audit=[{"method": "gdd", "spaces": {"pixels": {"attack_auc": 0.5}}}],
        images={
            NASTY: "grid.png",
            "gdd": "gone.png",
            "dim": "results.json",
        },
    )
    for name, weight in weights.items():
        value = config(matching={"omega_l": weight})
        content["methods"][name]["config"] = value
    folder = tmp_path_factory.mktemp("results")
    (folder / "results.json").write_text(json.dumps(content))
    (folder / "grid.png").write_bytes(png)
    run = tmp_path_factory.mktemp("runs") / "toy"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(config()))
    found = read_inputs([folder, run])
    found.runs[0].curves.append(Curve("cgan", "losses/x", (1, 2), (1.0, 2.0)))
    return found


@pytest.fixture(scope="module")
def document(full):
    return build_document(full)


@pytest.fixture(scope="module")
def page(document):
    return build_page(document)


def sections(document):
    return re.findall("^## (.*)$", document.markdown, re.MULTILINE)


def test_sections_in_order(document):
    assert sections(document) == [
        "Accuracy",
        "Across architectures",
        "Accuracy against images per class",
        "Sets of full size",
        "DD-Ranking",
        "Size",
        "Quality",
        "Memorisation audit",
        "Images",
        "Weight of the local loss",
        "Training",
        "Settings",
        "Machines",
        "Commands",
    ]


def test_sections_without_content_are_left_out(material):
    empty = material(generators=(), commands=[], environments=[])
    document = build_document(empty)
    assert sections(document) == []
    assert document.markdown.startswith("# Distilling toy\n\nData: a test")
    assert "No accuracy of a generator" in build_page(document)


def test_files_are_those_that_are_shown(document, png):
    shown = re.findall(r"\]\(figures/([^)]*)\)", document.markdown)
    assert sorted(shown) == sorted(document.files)
    assert len(set(shown)) == len(shown) == 4
    grids = [name for name in shown if name.endswith(".png")]
    assert [document.files[name] for name in grids] == [png]


def test_what_is_missing_is_said(document):
    text = document.markdown
    assert "The grid of gdd, " in text and "No such file" in text
    assert "results.json, is not shown: it is no PNG." in text
    assert "- The run toy has exported no generator yet." in text


def test_page_loads_nothing(page):
    reader = Reader(page)
    tags = {tag for tag, _ in reader.elements}
    assert not tags & {"script", "link", "iframe", "object", "image"}
    for tag, attributes in reader.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                inside = value.startswith(("#", "data:image/png;base64,"))
                # A link that a reader may follow.
                assert inside or (tag, name) == ("a", "href")
                assert not value.startswith("javascript")
    assert "@import" not in page
    assert set(re.findall(r"url\((.)", page)) <= {"#"}


def test_page_shows_names_as_they_are(page):
    assert "<script" not in page
    assert NASTY in "".join(Reader(page).text)


def test_links_and_ids(page):
    elements = Reader(page).elements
    ids = [found["id"] for _, found in elements if "id" in found]
    assert len(set(ids)) == len(ids)
    wanted = set(re.findall(r'href="#([^"]*)"', page))
    wanted |= set(re.findall(r"url\(#([^)]*)\)", page))
    assert wanted <= set(ids)
    assert "command-1" in wanted


def test_page_has_drawings_tables_and_details(page):
    tags = [tag for tag, _ in Reader(page).elements]
    assert tags.count("svg") == 3
    assert tags.count("img") == 1
    # The run has the settings of `gdd`.
    assert tags.count("details") == 3
    assert page.count('<div class="wide" tabindex="0"><table>') == tags.count(
        "table"
    )
    assert 'markdown="1"' not in page and "](" not in page
    assert "prefers-color-scheme: dark" in page and "@media print" in page


def test_same_material_gives_the_same_report(full, document, page):
    again = build_document(full)
    assert again.markdown == document.markdown
    assert again.files == document.files
    assert build_page(again) == page
