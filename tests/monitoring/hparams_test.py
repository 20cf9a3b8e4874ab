import pytest
import tensorflow as tf
from tensorboard import context
from tensorboard.backend.event_processing import data_provider
from tensorboard.backend.event_processing.plugin_event_multiplexer import (
    EventMultiplexer,
)
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import backend_context
from tensorboard.plugins.hparams import list_session_groups

from gdd_keras.config import make_config
from gdd_keras.monitoring import hyperparameters
from gdd_keras.monitoring import write_hparams


def rows_of_the_tab(logdir):
    """What the tab would show: (name, values, metrics) of each row."""
    multiplexer = EventMultiplexer(tensor_size_guidance={"scalars": 0})
    multiplexer.AddRunsFromDirectory(str(logdir))
    multiplexer.Reload()
    backend = backend_context.Context(
        base_plugin.TBContext(
            data_provider=data_provider.MultiplexerDataProvider(
                multiplexer, str(logdir)
            )
        )
    )
    request = context.RequestContext()
    everything = backend.experiment_from_metadata(
        request,
        "",
        True,
        backend.hparams_metadata(request, ""),
        backend.hparams_from_data_provider(request, "", None),
    )
    columns = [
        api_pb2.ColParams(metric=info.name) for info in everything.metric_infos
    ]
    response = list_session_groups.Handler(
        request,
        backend,
        "",
        api_pb2.ListSessionGroupsRequest(
            start_index=0,
            slice_size=100,
            allowed_statuses=list(api_pb2.Status.values()),
            col_params=columns,
        ),
    ).run()
    return sorted(
        (
            group.name,
            {
                name: getattr(value, value.WhichOneof("kind"))
                for name, value in group.hparams.items()
            },
            {m.name.tag: m.value for m in group.metric_values},
        )
        for group in response.session_groups
    )


def test_runs_are_rows_even_with_equal_values(tmp_path):
    values = {"rate": 0.5, "steps": 7, "name": "x", "mixed": True}
    write_hparams(tmp_path / "a" / "score", values, {})
    write_hparams(tmp_path / "b" / "score", values, {"accuracy/held_out": 0.25})
    write_hparams(
        tmp_path / "c",
        {"rate": 0.25, "other": "y"},
        {"accuracy/held_out": 0.5, "accuracy/test": 1},
    )
    assert rows_of_the_tab(tmp_path) == [
        ("a/score", values, {}),
        ("b/score", values, {"accuracy/held_out": 0.25}),
        (
            "c",
            {"rate": 0.25, "other": "y"},
            {"accuracy/held_out": 0.5, "accuracy/test": 1.0},
        ),
    ]


def test_metrics_can_follow_later(tmp_path):
    values = {"rate": 0.5}
    write_hparams(tmp_path / "a", values, {})
    write_hparams(tmp_path / "a", values, {"accuracy/test": 0.75}, 20)
    assert rows_of_the_tab(tmp_path) == [
        ("a", values, {"accuracy/test": 0.75}),
    ]


def test_scalars_of_other_folders_are_no_columns(tmp_path):
    write_hparams(tmp_path / "run" / "score", {"rate": 0.5}, {})
    writer = tf.summary.create_file_writer(str(tmp_path / "run" / "cgan"))
    with writer.as_default(step=1):
        tf.summary.scalar("losses/total", 1.0)
    writer.close()
    assert rows_of_the_tab(tmp_path) == [("run/score", {"rate": 0.5}, {})]


@pytest.mark.parametrize(
    ("values", "metrics", "error", "message"),
    [
        ({}, {}, ValueError, "`values` must hold at least one"),
        (
            {"pool": ("a", "b")},
            {},
            TypeError,
            r"Received: pool=\('a', 'b'\) of type tuple. Join several",
        ),
        ({"x": None}, {}, TypeError, "x=None of type NoneType"),
        ({"x": float("nan")}, {}, ValueError, "must be finite. .*x=nan"),
        ({"x": 1}, {"m": "0.5"}, TypeError, "numbers. Received: m='0.5' of"),
        ({"x": 1}, {"m": True}, TypeError, "m=True of type bool"),
    ],
)
def test_what_cannot_be_shown(values, metrics, error, message, tmp_path):
    with pytest.raises(error, match=message):
        write_hparams(tmp_path / "a", values, metrics)
    assert not (tmp_path / "a").exists()


def test_hyperparameters_of_a_config(tmp_path):
    config = make_config(
        "tiny", pool=("convnet3", "resnet10"), omega_g=0.5, seed=3
    )
    values = hyperparameters(config)
    expected = {
        "omega_g": 0.5,
        "omega_l": 50.0,
        "pool": "convnet3 resnet10",
        "local_layer": "block_2",
        "generator_learning_rate": 4e-4,
        "distill_discriminator_learning_rate": 2e-4,
        "cgan_steps": 8,
        "distill_steps": 4,
        "seed": 3,
        "preset": "tiny",
        "dataset": "digits",
    }
    assert {name: values[name] for name in expected} == expected
    # Not set, or of no influence on the images.
    for name in ("distill_seed", "image_size", "data_dir", "num_seeds"):
        assert name not in values
    write_hparams(tmp_path, values, {})
    sized = make_config(base=config, image_size=(32, 24), distill_seed=4)
    assert hyperparameters(sized)["image_size"] == "32 24"
    assert hyperparameters(sized)["distill_seed"] == 4
