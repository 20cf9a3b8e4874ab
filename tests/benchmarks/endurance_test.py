import json

import pytest

from benchmarks import endurance


def samples(memory, speed, files, networks="aaa"):
    return [
        {
            "seconds": 60.0 * i,
            "memory_mb": m,
            "images_per_second": s,
            "open_files": f,
            "network": None if n == "-" else n,
        }
        for i, (m, s, f, n) in enumerate(
            zip(memory, speed, files, networks, strict=True)
        )
    ]


def test_flat():
    figures = endurance.summarize(
        samples([1000.0, 1015.0, 1005.0], [99.0, 100.0, 108.0], [30, 31, 30])
    )
    assert figures["memory_growth"] == pytest.approx(0.015)
    assert figures["speed_deviation"] == pytest.approx(0.08)
    assert endurance.find_problems(figures) == []


@pytest.mark.parametrize(
    ("memory", "speed", "files", "problem"),
    [
        ([1000, 1030, 1010], [9, 9, 9], [1, 1, 1], "memory grew by 3.0%"),
        ([1000] * 3, [100, 100, 80], [1, 1, 1], "speed was 20.0% off"),
        ([1000] * 3, [9, 9, 9], [1, 2, 3], "2 more files are open"),
    ],
)
def test_problems(memory, speed, files, problem):
    figures = endurance.summarize(samples(memory, speed, files))
    (found,) = endurance.find_problems(figures)
    assert found.startswith(problem)


def test_short_run(tmp_path, capsys, quick_timing, monkeypatch):
    # A few seconds say nothing of leaks.
    monkeypatch.setattr(
        endurance, "find_problems", lambda figures: ["nothing grew"]
    )
    output = tmp_path / "figures.json"
    arguments = ["--dataset", "digits", "--preset", "tiny", "--minutes", "0.05"]
    assert endurance.main([*arguments, "--output", str(output)]) == 1
    shown = capsys.readouterr()
    assert "after warm-up, " in shown.out
    assert "failed: nothing grew." in shown.err
    figures = json.loads(output.read_text())
    assert len(figures["samples"]) >= 2
    assert figures["memory_mb"] > 100.0
    assert figures["images_per_second"] > 0.0


@pytest.mark.parametrize("minutes", ["0", "nan", "1e9", "x"])
def test_minutes_out_of_range(minutes, capsys):
    with pytest.raises(SystemExit):
        endurance.main(["--minutes", minutes])
    assert "--minutes" in capsys.readouterr().err


def test_memory_that_is_taken_back():
    figures = endurance.summarize(
        samples([1500.0, 1400.0, 1405.0], [9.0] * 3, [7] * 3)
    )
    assert figures["memory_growth"] == 0.0
    assert endurance.find_problems(figures) == []


@pytest.mark.parametrize(
    ("networks", "deviation"), [("ababa", 0.05), ("a-a-a", 0.05), ("-----", 0)]
)
def test_speed_is_compared_under_one_network(networks, deviation):
    figures = endurance.summarize(
        samples([1000] * 5, [100.0, 40.0, 95.0, 40.0, 100.0], [7] * 5, networks)
    )
    assert figures["speed_deviation"] == pytest.approx(deviation)
    mixed = endurance.summarize(
        samples([1000] * 5, [100.0, 40.0, 95.0, 40.0, 100.0], [7] * 5, "aaaaa")
    )
    assert mixed["speed_deviation"] > 0.5
