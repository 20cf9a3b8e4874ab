import pytest

from gdd_keras import memory
from gdd_keras.config import InputError
from gdd_keras.config import make_config
from gdd_keras.feasibility import check_training
from gdd_keras.networks import build_generator
from gdd_keras.networks import outline

SHAPE = (32, 32, 3)


def test_usual_settings_pass(monkeypatch):
    monkeypatch.setattr(memory, "total_memory", lambda: 16 * 2**30)
    for preset in ("tiny", "compact", "paper"):
        check_training(make_config(preset), SHAPE, 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator_width": 4096}, "generator_width=4096"),
        ({"discriminator_width": 4096}, "discriminator_width=4096"),
        ({"batch_size": 65536}, "batch_size=65536"),
        (
            {"protocol": "fixed", "ipc": 1_000_000},
            r"stored set \(ipc=1000000 of 10 classes\)",
        ),
        (
            {"local_layer": "nosuch"},
            "`local_layer` must be a layer of conv",
        ),
        (
            {"local_layer": ("block_1",) * 2, "pool": ("convnet3",) * 3},
            "2 names for 3 networks",
        ),
        ({"pool": ("nosuch",)}, "^`pool`: The network must be one of convnet3"),
        ({"pool": ("os:nosuch",)}, "^`pool`: .*cannot be imported"),
        ({"pool": ("os:getcwd",)}, r"function of \(image_shape, num_classes\)"),
        ({"pool": (".x:y",)}, "or `package.module:function`. Received: .x:y"),
        ({"network": "nosuch"}, "^`network`: The network must be one of"),
        (
            {"eval_labels": "soft"},
            "Received: eval_labels=soft, soft_labels=False. Add `--soft-lab",
        ),
    ],
)
def test_what_no_training_would_survive(settings, message, monkeypatch):
    monkeypatch.setattr(memory, "total_memory", lambda: 8 * 2**30)
    config = make_config("compact", **settings)
    with pytest.raises(InputError, match=message):
        check_training(config, SHAPE, 10)


@pytest.mark.parametrize(
    ("settings", "shape", "gigabytes", "message"),
    [
        # The networks of stage 1 need 7.3, the pool's 3.4 beside them.
        ({}, (192, 192, 3), 9, r"The networks .*batch_size=64, image_size=192"),
        ({"distill_steps": 0, "num_seeds": 0}, (192, 192, 3), 9, None),
        (
            {"batch_size": 8, "ipc": 50},
            (192, 192, 3),
            9,
            r"The network that scores \(network=convnet3\) .*ipc=50",
        ),
        ({"batch_size": 8, "ipc": 50, "num_seeds": 0}, (192, 192, 3), 9, None),
        # 10 classes of 20 triangles of eight million numbers, several times.
        ({"latent_dim": 4096}, SHAPE, 16, r"The mixture .*latent_dim=4096"),
        ({"latent_dim": 4096, "latents": "normal"}, SHAPE, 16, None),
    ],
)
def test_what_does_not_fit_hours_later(
    settings, shape, gigabytes, message, monkeypatch
):
    monkeypatch.setattr(memory, "total_memory", lambda: gigabytes * 2**30)
    config = make_config("compact", **settings)
    if message is None:
        check_training(config, shape, 10)
        return
    with pytest.raises(InputError, match=message):
        check_training(config, shape, 10)


def test_a_network_that_does_not_score_is_not_looked_at():
    config = make_config("tiny", network="nosuch", num_seeds=0)
    check_training(config, SHAPE, 10)
    # But one that says how well it goes is.
    config = make_config(base=config, monitor_every=1)
    with pytest.raises(InputError, match="^`network`: The network must be"):
        check_training(config, SHAPE, 10)


def test_an_outline_has_shapes_and_leaves_nothing_behind():
    before = outline(lambda: build_generator(SHAPE, 10, width=4096))
    assert before.count_params() > 10**10
    # Keras would give its variables their values here.
    after = build_generator(SHAPE, 10, width=2)
    same = outline(lambda: build_generator(SHAPE, 10, width=2))
    assert after.count_params() == same.count_params()


def test_an_outline_passes_errors_on():
    with pytest.raises(InputError, match="a message"):
        outline(lambda: fail("a message"))


def fail(message):
    raise InputError(message)


@pytest.mark.parametrize(
    "settings",
    [
        {"soft_labels": True, "eval_labels": "soft"},
        {"soft_labels": True, "conditioning": "projection"},
        {"eval_labels": "soft", "num_seeds": 0},
    ],
)
def test_soft_labels_that_can_be_given(settings):
    check_training(make_config("tiny", **settings), SHAPE, 10)
