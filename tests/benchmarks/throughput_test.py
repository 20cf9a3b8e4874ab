import functools
import json

import pytest

from benchmarks import throughput
from benchmarks.cases import make_cases
from gdd_keras.config import make_config
from gdd_keras.networks import count_multiply_adds


def test_parts_and_their_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "benchmarks.ceilings._CONVOLUTIONS", ((1, 4, 2), (1, 4, 3))
    )
    monkeypatch.setattr("benchmarks.ceilings._MATRIX_SIZE", 64)
    output = tmp_path / "figures.json"
    arguments = ["--only", "stage 1", "input", "--precision", "float32"]
    monkeypatch.setattr(
        throughput,
        "_first_step",
        lambda: pytest.fail("only what was asked for"),
    )
    # Large networks take long, and are the same code.
    monkeypatch.setattr(
        "benchmarks.cases.make_config", functools.partial(make_config, "tiny")
    )
    cases = [c for c in make_cases(["float32"]) if "DiM" not in c[0]]
    monkeypatch.setattr("benchmarks.cases.make_cases", lambda _: cases)
    arguments += ["--seconds", "0.1", "--output", str(output)]
    assert throughput.main(arguments) == 0
    report = json.loads(output.read_text())
    assert report["command"].startswith("python -m benchmarks.throughput --on")
    assert report["environment"]["versions"]["tensorflow"]
    parts = {part["name"]: part for part in report["parts"]}
    assert list(parts) == ["stage 1", "stage 1, in a run", "input pipeline"]
    ceiling = report["ceilings_gflops"]["convolution"]
    for name in ("stage 1", "stage 1, in a run"):
        part = parts[name]
        assert part["slowest"] <= part["images_per_second"] <= part["fastest"]
        assert part["gflops"] == pytest.approx(
            2e-9 * part["multiply_adds_per_image"] * part["images_per_second"],
            rel=0.05,
        )
        assert part["share_of_convolution_ceiling"] == pytest.approx(
            # The tiny ceiling of this test is rounded to a thousandth.
            part["gflops"] / ceiling,
            rel=0.05 + 0.0005 / ceiling,
        )
    assert "multiply_adds_per_image" not in parts["input pipeline"]
    shown = capsys.readouterr().out
    assert "other processes kept" in shown
    assert shown.count("stage 1") == 2


def test_estimate_agrees_with_the_graph():
    """What plans estimate by is near what TensorFlow does."""
    cases = {name: make for name, _, make in make_cases(["float32"])}
    for name in ("stage 1", "stage 2, convnet3", "stage 2, resnet10"):
        case = cases[name]()
        assert case.model.multiply_adds() == pytest.approx(
            case.multiply_adds, rel=0.15
        )


def test_evaluation_counts_three_passes():
    cases = {name: make for name, _, make in make_cases(["float32"])}
    case = cases["evaluation, convnet3"]()
    assert case.multiply_adds == 3 * count_multiply_adds(case.model)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e9", "x"])
def test_seconds_out_of_range(seconds, capsys):
    with pytest.raises(SystemExit) as stop:
        throughput.main(["--seconds", seconds])
    assert stop.value.code == 2
    assert "--seconds" in capsys.readouterr().err


def test_everything_by_default(capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.ceilings._CONVOLUTIONS", ((1, 4, 2),))
    monkeypatch.setattr("benchmarks.ceilings._MATRIX_SIZE", 64)
    measured = []
    cases = [
        (name, None, lambda name=name: name) for name in ("one part", "another")
    ]
    monkeypatch.setattr("benchmarks.cases.make_cases", lambda _: cases)
    monkeypatch.setattr(
        throughput, "_measure", lambda case, *_: measured.append(case)
    )
    monkeypatch.setattr(throughput, "_first_step", lambda: 7.5)
    assert throughput.main(["--seconds", "0.1"]) == 0
    assert measured == ["one part", "another"]
    assert "digits: 7.5 s after the command" in capsys.readouterr().out
