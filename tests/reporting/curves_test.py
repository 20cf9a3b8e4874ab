import struct

import pytest

from gdd_keras.reporting.curves import read_curves


@pytest.fixture(
    scope="module", params=[7, -3600], ids=["later", "clock-set-back"]
)
def tensorboard(request, tmp_path_factory):
    """Folder of two stages; `cgan` was interrupted and resumed at step 20."""
    import numpy as np
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("tensorboard")

    def write(stage, name, points):
        with tf.summary.create_file_writer(
            str(folder / stage), filename_suffix=name
        ).as_default():
            for step, value in points:
                tf.summary.scalar("losses/total", value, step)
                tf.summary.scalar("learning_rate/generator", 0.5, step)
                image = np.zeros((1, 2, 2, 1), np.uint8)
                tf.summary.image("images/generated", image, step)

    write("cgan", ".1", [(10, 4.0), (20, 3.0), (30, 9.0)])
    write("distill", ".2", [(50, 1.0), (60, float("nan"))])
    resumed = folder / "resumed"
    write("resumed", ".3", [(20, 2.5), (40, 2.0)])
    for file in resumed.iterdir():
        first = next((folder / "cgan").iterdir()).name.split(".")
        name = file.name.split(".")
        # Another time, whatever the clock's resolution.
        name[3] = str(int(first[3]) + request.param)
        file.rename(folder / "cgan" / ".".join(name))
    resumed.rmdir()
    return folder


def test_scalars_by_stage_and_tag(tensorboard):
    curves = read_curves(tensorboard)
    assert [(c.stage, c.tag) for c in curves] == [
        ("cgan", "learning_rate/generator"),
        ("cgan", "losses/total"),
        ("distill", "learning_rate/generator"),
        ("distill", "losses/total"),
    ]
    assert curves[0].values == (0.5, 0.5, 0.5)


def test_resumed_steps_replace_earlier_ones(tensorboard):
    curve = read_curves(tensorboard)[1]
    assert curve.steps == (10, 20, 40)
    assert curve.values == (4.0, 2.5, 2.0)


def test_values_that_are_not_finite_are_left_out(tensorboard):
    curve = read_curves(tensorboard)[3]
    assert (curve.steps, curve.values) == ((50,), (1.0,))


def test_a_file_that_ends_early_is_read_up_to_there(tensorboard, tmp_path):
    (tmp_path / "cgan").mkdir()
    (source,) = (tensorboard / "cgan").glob("*.1")
    content = source.read_bytes()
    target = tmp_path / "cgan" / source.name
    target.write_bytes(content[: len(content) * 2 // 3])
    curve = read_curves(tmp_path)[-1]
    assert curve.steps[0] == 10 and len(curve.steps) < 3
    # A length that cannot be, and a record that is none.
    target.write_bytes(content + struct.pack("<QI", 2**62, 0) + b"x" * 50)
    assert read_curves(tmp_path)[-1].steps == (10, 20, 30)
    target.write_bytes(content + struct.pack("<QI", 5, 0) + b"\xff" * 9)
    assert read_curves(tmp_path)[-1].steps == (10, 20, 30)


def test_no_folder(tmp_path):
    assert read_curves(tmp_path / "absent") == []
    (tmp_path / "cgan").mkdir()
    (tmp_path / "cgan" / "events.out").touch()
    assert read_curves(tmp_path) == []
