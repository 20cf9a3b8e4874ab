import pytest
import tensorflow as tf

from benchmarks import operations


def test_operations_of_a_function():
    x = tf.ones((400, 400))
    multiply = tf.function(lambda: x @ x @ x)
    multiply()
    wall, milliseconds, counts = operations.profile_operations(
        lambda: multiply().numpy(), calls=3
    )
    (kind,) = [name for name in counts if "MatMul" in name]
    assert counts[kind] == pytest.approx(2.0)
    assert 0.0 < milliseconds[kind] < 2 * wall


def test_table(capsys):
    assert operations.main(["input pipeline", "--calls", "1"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("input pipeline, float32: ")
    assert shown[2].split() == ["operation", "ms", "%", "times"]
    assert len(shown) > 3


def test_unknown_part(capsys):
    assert operations.main(["stage 3"]) == 2
    assert "must be one of stage 1; stage 2, " in capsys.readouterr().err


@pytest.mark.parametrize("calls", ["0", "1001", "x"])
def test_calls_out_of_range(calls, capsys):
    with pytest.raises(SystemExit):
        operations.main(["stage 1", "--calls", calls])
    assert "--calls" in capsys.readouterr().err
