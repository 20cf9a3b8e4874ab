import re
from xml.etree import ElementTree

import pytest

from gdd_keras.reporting.curves import Curve
from gdd_keras.reporting.figures import accuracy_figure
from gdd_keras.reporting.figures import curve_figures
from gdd_keras.reporting.figures import weight_figure
from gdd_keras.reporting.plots import INK
from gdd_keras.reporting.plots import line_style
from gdd_keras.reporting.plots import standalone
from gdd_keras.reporting.records import Row
from gdd_keras.reporting.runs import Run


def texts(svg):
    root = ElementTree.fromstring(svg)
    return [
        "".join(element.itertext()).strip()
        for element in root.iter("{http://www.w3.org/2000/svg}text")
    ]


@pytest.fixture
def drawn(material, record):
    found = material(
        [
            record("gdd", 0.8),
            record("gdd", 0.9, ipc=50),
            record("gdd", 0.9, 1, ipc=50),
            record("_a$b$ & 日本", 0.6),
            record("_a$b$ & 日本", 0.7, ipc=50),
            record("real_stream", 0.95),
            record("gdd", 0.5, protocol="fixed"),
            record("gdd", 0.6, protocol="fixed", ipc=1, command=1),
        ],
        commands=["a", "b", "c"],
    )
    return accuracy_figure(found)


def test_accuracy_figure(drawn):
    svg, records = drawn
    found = texts(svg)
    assert {"gdd", "_a$b$ & 日本", "images per class", "1", "10", "50"} <= set(
        found
    )
    # One panel per setting; the ceiling has one IPC only.
    assert "stream, convnet3" in svg and "fixed, convnet3" in svg
    assert found.count("crop, float32") == 2
    assert "real_stream (ceiling)" not in found
    assert {record.command for record in records} == {0, 1}


def test_drawings_fit_light_and_dark_pages(drawn):
    svg, _ = drawn
    assert "currentColor" in svg and INK not in svg
    assert not re.search("#000000|#ffffff|<style|<metadata|http://purl", svg)
    file = standalone(svg)
    ElementTree.fromstring(file.encode())
    assert "prefers-color-scheme:dark" in file


def test_same_figures_give_the_same_file(material, records):
    found = material(records("gdd", [0.5]) + records("gdd", [0.6], ipc=50))
    assert accuracy_figure(found)[0] == accuracy_figure(found)[0]


def test_one_ipc_is_no_curve(material, record):
    found = material([record("gdd", 0.5), record("gan", 0.6, ipc=1)])
    assert accuracy_figure(found) is None


def test_weight_figure(material, config, record):
    weights = (0.0, 0.0001, 0.01)
    names = ["dim", "gdd", "other"]
    found = material([record(name, 0.5) for name in names], generators=names)
    assert weight_figure(found) is None
    for name, weight in zip(names, weights, strict=True):
        value = config(matching={"omega_l": weight})
        found.results.methods[name]["config"] = value
    svg, records = weight_figure(found)
    assert {"omega_l", "0", "0.0001", "0.01"} <= set(texts(svg))
    assert len(records) == 3


def test_curve_figures(tmp_path):
    curves = [
        Curve("cgan", "losses/total", (1, 2, 3), (3.0, 2.0, 1.0)),
        Curve("cgan", "learning_rate/generator", (1,), (0.5,)),
        Curve("distill", "losses/global_loss", (4, 5), (1.0, 0.0)),
        # Of these, TensorBoard is the place.
        Curve("cgan", "weighted/total", (1, 2), (3.0, 2.0)),
        Curve("cgan", "learning_rate/discriminator", (1,), (0.5,)),
        Curve("score", "accuracy/held_out", (1, 2), (0.5, 0.75)),
    ]
    run = Run("toy", tmp_path, {}, {}, curves=curves)
    found = curve_figures(run)
    assert list(found) == ["cgan", "distill"]
    assert {"total", "learning_rate/generator"} <= set(texts(found["cgan"]))
    assert "global_loss" in texts(found["distill"])
    assert "weighted/total" not in texts(found["cgan"])
    assert "learning_rate/discriminator" not in texts(found["cgan"])
    assert curve_figures(Run("toy", tmp_path, {}, {})) == {}


def test_methods_keep_their_looks():
    few = {"gdd": {}, "mine": {}}
    assert line_style(Row("gdd"), few) == line_style(Row("gdd"), {})
    looks = [
        (style["color"], style["marker"])
        for name in ("gdd", "dim", "gan", "random", "dm", "mine")
        for style in [line_style(Row(name), few)]
    ]
    assert len(set(looks)) == len(looks)
    chosen = line_style(Row("gdd", "herding"), few)
    assert chosen["color"] == looks[0][0] and chosen["linestyle"] == "--"
