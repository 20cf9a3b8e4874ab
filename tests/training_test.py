import dataclasses
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorboard.backend.event_processing.event_file_loader import (
    EventFileLoader,
)

from gdd_keras import training
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import make_config
from gdd_keras.data import Split
from gdd_keras.networks import count_multiply_adds
from gdd_keras.run_directory import RunDirectory
from gdd_keras.training import Plan
from gdd_keras.training import build_networks
from gdd_keras.training import build_stages
from gdd_keras.training import check_same_data
from gdd_keras.training import plan_training
from gdd_keras.training import time_plan
from gdd_keras.training import train_stage

PLAN = Plan(epochs=3, steps_per_epoch=2, step_seconds=0.01)


class InterruptedError(Exception):
    pass


class InterruptedRun(RunDirectory):
    """Dies right after progress was saved for the n-th time."""

    saves_left = None

    def save(self, **changes):
        super().save(**changes)
        if self.saves_left is not None:
            self.saves_left -= 1
            if self.saves_left == 0:
                raise InterruptedError


@pytest.fixture(scope="module")
def config(own_networks):
    return make_config(
        "tiny",
        pool=(f"{own_networks}:narrow", f"{own_networks}:wide"),
        local_layer="inner",
        latent_dim=5,
        generator_width=4,
        discriminator_width=4,
        batch_size=6,
        cgan_steps=6,
        distill_steps=6,
        steps_per_epoch=2,
        pool_redraw_steps=2,
        # Learning rates that change with every step.
        decay_fraction=1.0,
        gan_augmentation="crop",
    )


def state_values(trainer):
    return {
        f"{name}/{index}": tf.convert_to_tensor(variable).numpy()
        for name, value in trainer.state().items()
        for index, variable in enumerate(training._variables({name: value}))
    }


def train(path, config, dataset, interrupt_at=None):
    """Both stages with fresh objects, as a process of its own would."""
    run = InterruptedRun(path, config)
    run.saves_left = interrupt_at
    stages = build_stages(config, dataset)
    previous = None
    for stage in stages:
        if previous is not None:
            stage.trainer.continue_from(previous.trainer)
        train_stage(stage, PLAN, run, config, verbose=0)
        previous = stage
    return state_values(stages[-1].trainer)


def interrupt(path, config, dataset, saves):
    with pytest.raises(InterruptedError):
        train(path, config, dataset, saves)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, config, toy_dataset):
    """Folder and final state of a run without a break."""
    path = tmp_path_factory.mktemp("whole")
    return path, train(path, config, toy_dataset)


def assert_same_state(got, expected):
    assert list(got) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_training_leaves_its_traces(whole, config):
    path, state = whole
    assert state["step/0"] == 12
    assert sorted(file.name for file in (path / "images").iterdir()) == [
        f"{stage}_00{epoch}.png"
        for stage in ("cgan", "distill")
        for epoch in (1, 2, 3)
    ]
    for stage, steps in (("cgan", (4, 6)), ("distill", (10, 12))):
        folder = path / "checkpoints" / stage
        assert sorted(file.stem for file in folder.glob("*.index")) == sorted(
            f"ckpt-{step}" for step in steps
        )
        assert len(list((path / "tensorboard" / stage).iterdir())) == 1
    run = RunDirectory(path, config)
    stages = run.state["stages"]
    seconds = [stage.pop("seconds") for stage in stages.values()]
    assert min(seconds) > 0
    assert sum(seconds) == pytest.approx(run.state["seconds"])
    assert stages == {
        "cgan": {"first_step": 0, "done": True, "steps": 6},
        "distill": {"first_step": 6, "done": True, "steps": 6},
    }
    # Steps 6, 8 and 10 began with a draw.
    assert state["pool_draw_count/0"] == 2


# Saves: three epochs and the end of stage 1, then the same of stage 2.
def test_run_resumed_between_stages_equals_one_without_a_break(
    whole, config, toy_dataset, tmp_path
):
    interrupt(tmp_path, config, toy_dataset, 4)
    assert_same_state(train(tmp_path, config, toy_dataset), whole[1])


def test_resumed_run_whose_encoder_learns_in_stage_2(
    config, toy_dataset, tmp_path
):
    config = make_config(base=config, distill_encoder=True, drawn_share=0.5)
    # Enough images for centres that share a covariance.
    images = np.repeat(toy_dataset.train.images, 5, axis=0)
    train_split = Split(images, np.repeat(toy_dataset.train.labels, 5))
    dataset = dataclasses.replace(toy_dataset, train=train_split)
    expected = train(tmp_path / "whole", config, dataset)
    assert np.abs(expected["latent_mixture_means/0"]).max() > 0.0
    assert expected["latent_mixture_component_bounds/0"].shape == (3, 2)
    interrupt(tmp_path / "broken", config, dataset, 6)
    assert_same_state(train(tmp_path / "broken", config, dataset), expected)


def test_paused_training_equals_training_at_once(
    whole, config, toy_dataset, tmp_path
):
    for last_epoch in (1, 1, None):
        run = RunDirectory(tmp_path, config)
        stages = build_stages(config, toy_dataset)
        train_stage(stages[0], PLAN, run, config, verbose=0)
        stages[1].trainer.continue_from(stages[0].trainer)
        train_stage(stages[1], PLAN, run, config, 0, last_epoch)
        steps = run.state["stages"]["distill"]["steps"]
        assert steps == PLAN.steps_per_epoch * (last_epoch or PLAN.epochs)
        assert run.state["stages"]["distill"]["done"] == (last_epoch is None)
    assert_same_state(state_values(stages[1].trainer), whole[1])


def events_of(path, stage):
    """Tag to the steps at which it was written."""
    steps = {}
    folder = path / "tensorboard" / stage
    for file in sorted(folder.glob("events*"), key=lambda f: f.stat().st_mtime):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                steps.setdefault(value.tag, []).append(event.step)
            if event.graph_def:
                steps.setdefault("graph", []).append(event.step)
    return steps


def test_every_epoch_is_in_tensorboard(whole):
    for stage, ends in (("cgan", [2, 4, 6]), ("distill", [8, 10, 12])):
        events = events_of(whole[0], stage)
        # The first step of the stage is a point too.
        assert events["losses/adversarial_loss"] == [ends[0] - 1, *ends]
        assert events["weighted/total"] == [ends[0] - 1, *ends]
        assert events["images/real_and_generated"] == ends
    assert events["pool/index"] == events["pool/network"] == [6, 8, 10]
    assert "accuracy/held_out" not in events
    assert not (whole[0] / "tensorboard" / "score").exists()


def test_run_resumed_within_each_stage_equals_one_without_a_break(
    whole, config, toy_dataset, tmp_path
):
    for saves in (1, 5):
        interrupt(tmp_path, config, toy_dataset, saves)
    assert_same_state(train(tmp_path, config, toy_dataset), whole[1])
    # No point is there twice.
    graphs = 0
    for stage in ("cgan", "distill"):
        for tag, steps in events_of(tmp_path, stage).items():
            assert steps == sorted(set(steps)), tag
            graphs += tag == "graph"
    assert graphs == 1


def test_held_out_accuracy_leaves_training_alone(
    whole, config, own_networks, toy_dataset, tmp_path
):
    monitored = make_config(
        base=config,
        monitor_every=2,
        network=f"{own_networks}:wide",
        eval_epochs=3,
    )
    state = train(tmp_path, monitored, toy_dataset)
    assert_same_state(state, whole[1])
    # One curve over both stages; three epochs each.
    events = events_of(tmp_path, "score")
    assert events == {"accuracy/held_out": [4, 10]}


def test_profile(config, toy_dataset, tmp_path):
    (stage,) = build_stages(
        make_config(base=config, distill_steps=0), toy_dataset
    )
    run = RunDirectory(tmp_path, config)
    train_stage(stage, PLAN, run, config, verbose=0, profile=True)
    found = tmp_path.glob("tensorboard/cgan/plugins/profile/*/*.xplane.pb")
    assert len(list(found)) == 1


def cut_short(path, step, length):
    """Leaves the first bytes of a checkpoint's data."""
    (file,) = (path / "checkpoints" / "cgan").glob(f"ckpt-{step}.data-*")
    file.write_bytes(file.read_bytes()[:length])


# Other damage: tests/faults/data_test.py.
def test_damaged_checkpoint_falls_back(
    whole, config, toy_dataset, tmp_path, capsys
):
    interrupt(tmp_path, config, toy_dataset, 2)
    shutil.copytree(tmp_path, tmp_path / "none")
    cut_short(tmp_path, 4, 1000)
    assert_same_state(train(tmp_path, config, toy_dataset), whole[1])
    assert "cannot be read; trying the one before" in capsys.readouterr().out
    # Without another one before.
    cut_short(tmp_path / "none", 2, 0)
    cut_short(tmp_path / "none", 4, 0)
    with pytest.raises(
        RunError, match="no checkpoint in .* can be read. Start over with"
    ):
        train(tmp_path / "none", config, toy_dataset)


def test_finished_stage_without_checkpoints(config, toy_dataset, tmp_path):
    interrupt(tmp_path, config, toy_dataset, 4)
    for file in (tmp_path / "checkpoints" / "cgan").iterdir():
        file.unlink()
    # Else stage 2 would start from an untrained generator.
    with pytest.raises(RunError, match="no checkpoint in .* Start over with"):
        train(tmp_path, config, toy_dataset)


@pytest.mark.parametrize(
    ("done", "epochs", "expected"),
    [
        (0, 3, [(0, 3, 8)]),
        (16, 3, [(2, 3, 8)]),
        # What an interruption left of an epoch comes first.
        (4, 3, [(0, 1, 4), (1, 3, 8)]),
        (20, 3, [(2, 3, 4)]),
        # Nothing is left but the note that it is done.
        (24, 3, [(3, 3, 8)]),
    ],
)
def test_epochs_left(done, epochs, expected):
    parts = training._epochs_left(Plan(3, 8), done, epochs)
    assert [tuple(part.values()) for part in parts] == expected


def test_planning_leaves_no_trace(config, toy_dataset, monkeypatch):
    monkeypatch.setattr(training, "_TIMED_SECONDS", 0.0)
    stages = build_stages(config, toy_dataset)
    before = [state_values(stage.trainer) for stage in stages]
    plans = plan_training(stages, config, toy_dataset)
    for stage, expected in zip(stages, before, strict=True):
        assert_same_state(state_values(stage.trainer), expected)
    assert [(p.epochs, p.steps_per_epoch) for p in plans] == [(3, 2), (3, 2)]
    assert all(p.step_seconds > 0 and p.seconds is None for p in plans)


def plan(
    config,
    monkeypatch,
    dataset,
    steps=(6000, 2000),
    execution=4,
    seconds_left=None,
    step_seconds=0.1,
):
    """Plans stages of which only the numbers count."""
    stages = [
        types.SimpleNamespace(
            steps=count,
            trainer=types.SimpleNamespace(steps_per_execution=execution),
        )
        for count in steps
    ]
    monkeypatch.setattr(training, "_time_steps", lambda stage: step_seconds)
    left = None if seconds_left is None else lambda: seconds_left
    return plan_training(stages, config, dataset, left)


@pytest.mark.parametrize(
    ("steps", "settings", "expected"),
    [
        # One pass over 30 images is less than the least of 200.
        (6000, {}, (30, 200)),
        (2000, {"steps_per_epoch": 500}, (4, 500)),
        (6, {"steps_per_epoch": 500}, (1, 4)),
        (1, {}, (1, 4)),
        (1001, {"steps_per_epoch": 100}, (10, 100)),
        (290, {"steps_per_epoch": 100}, (3, 96)),
    ],
)
def test_epochs_and_steps(steps, settings, expected, monkeypatch, toy_dataset):
    config = make_config("compact", **settings)
    (got,) = plan(config, monkeypatch, toy_dataset, (steps,))
    assert (got.epochs, got.steps_per_epoch) == expected
    assert got.steps == expected[0] * expected[1]
    assert (got.step_seconds, got.seconds) == (0.1, None)


def test_plan_is_the_same_for_several_devices(monkeypatch, toy_dataset):
    settings = {"steps_per_epoch": 99}
    one, several = (
        plan(
            make_config("compact", strategy=strategy, **settings),
            monkeypatch,
            toy_dataset,
            # Keras takes single steps under a strategy.
            execution=execution,
        )
        for strategy, execution in (("none", 4), ("mirrored", 1))
    )
    assert several == one
    assert one[0].steps_per_epoch == 96


def test_epoch_is_a_pass_over_a_large_set(monkeypatch):
    dataset = types.SimpleNamespace(train=range(60_000))
    (got,) = plan(make_config("compact"), monkeypatch, dataset, (6000,))
    # 60,000 / 64 is 937 steps; 6,000 steps are about six of those.
    assert (got.epochs, got.steps_per_epoch) == (6, 1000)


def test_plan_without_timing(config, toy_dataset, monkeypatch):
    monkeypatch.setattr(training, "_time_steps", None)
    stages = build_stages(config, toy_dataset)
    plans = plan_training(stages, config, toy_dataset, num_timed=0)
    assert plans == [Plan(epochs=3, steps_per_epoch=2)] * 2


def test_other_stages_are_estimated(config, toy_dataset, monkeypatch):
    config = make_config(base=config, latents="normal")
    stages = build_stages(config, toy_dataset)
    timed = []

    def time_steps(stage):
        timed.append(stage.name)
        return 0.2

    monkeypatch.setattr(training, "_time_steps", time_steps)
    first, second = plan_training(stages, config, toy_dataset, num_timed=1)
    assert timed == ["cgan"]
    assert (first.step_seconds, first.estimated) == (0.2, False)
    work = [stage.trainer.multiply_adds() for stage in stages]
    assert work[1] > work[0]
    assert second.step_seconds == pytest.approx(0.2 * work[1] / work[0])
    assert second.estimated
    # Timed later, in the seconds that it has.
    limited = dataclasses.replace(second, seconds=2.0)
    again = time_plan(stages[1], limited, config, toy_dataset)
    assert timed == ["cgan", "distill"]
    assert (again.step_seconds, again.seconds) == (0.2, 2.0)
    assert not again.estimated
    assert again.steps == 10


def test_plain_gan_has_no_work_in_its_pool(config, toy_dataset):
    config = make_config(
        base=config, omega_g=0.0, omega_l=0.0, distill_encoder=False
    )
    normal = make_config(base=config, latents="normal")
    first, second = build_stages(normal, toy_dataset)
    assert second.trainer.multiply_adds() == first.trainer.multiply_adds()
    learning = make_config(base=config, distill_encoder=True)
    # If told so, the encoder is trained in stage 1 alone.
    encoded, both = (
        [s.trainer.multiply_adds() for s in build_stages(c, toy_dataset)]
        for c in (config, learning)
    )
    one_pass = count_multiply_adds(build_networks(config, (8, 8, 1), 3)[2])
    assert one_pass > 0
    # The encoder's generator has no other size.
    plain = first.trainer.multiply_adds()
    assert encoded == [plain + 3 * one_pass, plain + one_pass]
    assert both == [plain + 3 * one_pass] * 2


def test_jit(config, toy_dataset, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [])
    compiled = {
        jit: build_stages(make_config(base=config, jit=jit), toy_dataset)[
            0
        ].trainer.jit_compile
        for jit in ("auto", "on", "off")
    }
    assert compiled == {"auto": False, "on": True, "off": False}


def test_jit_does_not_go_with_several_devices():
    with pytest.raises(InputError, match="under `--strategy mirrored`"):
        training._jit_compile("on", mirrored=True)
    assert training._jit_compile("auto", mirrored=True) is False


def test_precision_reaches_the_networks(config, toy_dataset):
    for precision, dtype in (
        ("float32", "float32"),
        ("mixed_bfloat16", "bfloat16"),
    ):
        settings = make_config(base=config, precision=precision)
        trainer = build_stages(settings, toy_dataset)[1].trainer
        for network in (
            trainer.generator,
            trainer.discriminator.layers[1].layer,
            trainer.pool.networks[0],
        ):
            layers = getattr(network, "layers", [network])
            assert dtype in {layer.compute_dtype for layer in layers}
        average = trainer.averaged_generator
        assert {x.compute_dtype for x in average.layers} == {"float32"}


def test_automatic_precision(config, monkeypatch):
    monkeypatch.setattr(training, "fast_precision", lambda: "whatever is fast")
    precision = training.training_precision
    automatic = make_config(base=config, precision="auto")
    assert precision(automatic) == "whatever is fast"
    assert precision(make_config(precision="float32")) == "float32"


def test_budget_is_shared(monkeypatch, toy_dataset):
    config = make_config("compact", cgan_share=0.75)
    first, second = plan(config, monkeypatch, toy_dataset, seconds_left=115.0)
    assert (first.seconds, second.seconds) == (75.0, 25.0)
    # Epochs of equal length, in whole executions.
    assert (first.epochs, first.steps_per_epoch) == (4, 184)
    assert (second.epochs, second.steps_per_epoch) == (1, 248)
    (alone,) = plan(
        config, monkeypatch, toy_dataset, (6000,), seconds_left=115.0
    )
    assert alone.seconds == 100.0


@pytest.mark.parametrize("seconds_left", [-50.0, 3.0])
def test_budget_that_is_used_up_trains_a_little(
    seconds_left, monkeypatch, toy_dataset
):
    plans = plan(
        make_config("compact"),
        monkeypatch,
        toy_dataset,
        seconds_left=seconds_left,
        step_seconds=30.0,
    )
    assert [p.seconds for p in plans] == [0.75, 0.25]
    assert [(p.epochs, p.steps_per_epoch) for p in plans] == [(1, 4), (1, 4)]


def test_stages_share_their_networks(config, toy_dataset):
    first, second = build_stages(config, toy_dataset)
    assert (first.name, second.name) == ("cgan", "distill")
    assert first.trainer.generator is second.trainer.generator
    assert first.trainer.discriminator is second.trainer.discriminator
    assert second.trainer.pool.names == config.matching.pool
    assert second.trainer.matching_augmentation == "crop"
    batch = next(iter(second.batches(0)))
    assert batch["pool_images"].shape == (1, 6, 8, 8, 1)
    assert set(next(iter(first.batches(0)))) == {"images", "labels"}


def test_config_reaches_the_trainers(config, toy_dataset):
    values = {
        "cgan_loss": "wgan_gp",
        "auxiliary_weight": 0.3,
        "gradient_penalty_weight": 7.0,
        "ema_decay": 0.5,
        "gan_augmentation": "auto",
        "seed": 11,
        "omega_g": 0.2,
        "omega_l": 0.1,
        "matching_reduction": "sum",
        "matching_augmentation": "color_crop",
        "adam_beta_1": 0.25,
        "adam_beta_2": 0.75,
        "generator_learning_rate": 0.5,
        "discriminator_learning_rate": 0.25,
        "distill_learning_rate": 0.125,
        "distill_discriminator_learning_rate": 0.0625,
        "pool_learning_rate": 0.75,
        "pool_train_steps": 2,
        "elbo_weight": 0.7,
        "pixel_variance": 0.2,
        "gradient_penalty_every": 3,
        "drawn_share": 0.25,
        "distill_encoder": False,
    }
    stages = build_stages(make_config(base=config, **values), toy_dataset)
    for stage in stages:
        trainer = stage.trainer
        assert trainer.adversarial_loss == "wgan_gp"
        assert trainer.auxiliary_weight == 0.3
        assert trainer.gradient_penalty_weight == 7.0
        assert trainer.gradient_penalty_every == 3
        assert (trainer.elbo_weight, trainer.pixel_variance) == (0.7, 0.2)
        assert trainer.ema_decay == 0.5
        assert trainer.augmentation == toy_dataset.augmentation
        assert trainer.seed == 11
        for optimizer in (
            trainer.generator_optimizer,
            trainer.discriminator_optimizer,
        ):
            assert (optimizer.beta_1, optimizer.beta_2) == (0.25, 0.75)
    rates = [
        (
            float(stage.trainer.generator_optimizer.learning_rate),
            float(stage.trainer.discriminator_optimizer.learning_rate),
        )
        for stage in stages
    ]
    assert rates == [(0.5, 0.25), (0.125, 0.0625)]
    distiller = stages[1].trainer
    assert (distiller.omega_g, distiller.omega_l) == (0.2, 0.1)
    assert distiller.matching_reduction == "sum"
    assert distiller.matching_augmentation == "color_crop"
    assert distiller.drawn_share == 0.25
    assert [stage.trainer.trains_encoder for stage in stages] == [True, False]
    batch = next(iter(stages[1].batches(0)))
    assert batch["pool_images"].shape[0] == 2
    for optimizer in distiller.pool.optimizers:
        assert float(optimizer.learning_rate) == 0.75


def test_config_reaches_the_networks():
    settings = make_config(
        "tiny",
        generator="residual",
        generator_width=3,
        discriminator_width=5,
        discriminator_stem=7,
        discriminator_gain=1.5,
        encoder_width=6,
        latent_dim=9,
    )
    generator, discriminator, encoder = build_networks(settings, (8, 8, 1), 3)
    assert generator.input_shape == [(None, 9), (None, 3)]
    assert any(isinstance(x, layers.Add) for x in generator.layers)
    assert generator.layers[-2].input.shape[-1] == 3
    convolutions = [
        layer.layer.filters
        for layer in discriminator.layers
        if isinstance(getattr(layer, "layer", None), layers.Conv2D)
    ]
    assert convolutions == [7, 5]
    gains = [
        layer.scale
        for layer in discriminator.layers
        if isinstance(layer, layers.Rescaling)
    ]
    assert gains == [1.5, 1.5]
    assert encoder.layers[1].filters == 6


@pytest.mark.parametrize(("wanted", "got"), [(1, 1), (3, 2)])
def test_mixture_is_no_larger_than_the_data_allow(wanted, got, toy_dataset):
    rows = np.arange(60) % len(toy_dataset.train)
    train = Split(toy_dataset.train.images[rows], np.arange(60) % 3)
    stages = build_stages(
        make_config("tiny", distill_steps=0, mixture_components=wanted),
        dataclasses.replace(toy_dataset, train=train),
    )
    mixture = stages[0].trainer.deployed_generator.get_layer("latent_mixture")
    # Twenty images a class; ten at least share a component.
    assert mixture.num_components == got


@pytest.mark.parametrize(
    ("components", "centres", "got"), [(1, 9, 2), (2, 1, 2), (1, 1, 1)]
)
def test_centres_are_no_more_than_the_data_allow(
    components, centres, got, toy_dataset
):
    rows = np.arange(60) % len(toy_dataset.train)
    train = Split(toy_dataset.train.images[rows], np.arange(60) % 3)
    config = make_config(
        "tiny",
        distill_steps=0,
        mixture_components=components,
        mixture_centres=centres,
    )
    stages = build_stages(config, dataclasses.replace(toy_dataset, train=train))
    assert stages[0].trainer.latent_mixture.num_centres == got


def test_seed_of_stage_2_alone(config, toy_dataset):
    def seeds_and_images(distill_seed):
        settings = make_config(base=config, seed=3, distill_seed=distill_seed)
        stages = build_stages(settings, toy_dataset)
        assert stages[1].trainer.pool.seed == stages[1].trainer.seed
        images = [next(iter(s.batches(0)))["images"].numpy() for s in stages]
        return [stage.trainer.seed for stage in stages], images

    seeds, images = seeds_and_images(None)
    assert seeds == [3, 3]
    np.testing.assert_array_equal(*images)
    seeds, images = seeds_and_images(8)
    assert seeds == [3, 8]
    assert (images[0] != images[1]).any()


def test_stage_2_can_be_left_out(config, toy_dataset):
    (stage,) = build_stages(
        make_config(base=config, distill_steps=0), toy_dataset
    )
    assert stage.name == "cgan"


def test_without_weights_the_pool_costs_nothing(config, toy_dataset):
    settings = {"omega_g": 0.0, "omega_l": 0.0}
    _, stage = build_stages(make_config(base=config, **settings), toy_dataset)
    assert not stage.trainer.matches
    assert set(next(iter(stage.batches(0)))) == {"images", "labels"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"local_layer": "absent"}, "local_layer=absent. It has: inner, "),
        ({"local_layer": ("inner",) * 3}, "3 names for 2 networks"),
        ({"pool": "absent"}, "must be one of convnet3, .* Received: absent"),
    ],
)
def test_wrong_pool(settings, message, config, toy_dataset):
    with pytest.raises(InputError, match=message):
        build_stages(make_config(base=config, **settings), toy_dataset)


def test_nan_keeps_the_checkpoint(config, toy_dataset, tmp_path):
    config = make_config(base=config, distill_steps=0)
    (stage,) = build_stages(config, toy_dataset)
    run = RunDirectory(tmp_path, config)

    def poisoned(first_step):
        good = stage.batches(first_step).take(3)

        def spoil(batch):
            # uint8 cannot hold NaN; a float image can.
            images = tf.cast(batch["images"], tf.float32)
            return {**batch, "images": images * float("nan")}

        bad = stage.batches(3).map(spoil)
        return good.map(
            lambda batch: {
                **batch,
                "images": tf.cast(batch["images"], tf.float32),
            }
        ).concatenate(bad)

    poisoned_stage = dataclasses.replace(stage, batches=poisoned)
    with pytest.raises(
        RunError, match=r"`\w+_loss` became nan at step 4 of stage cgan"
    ):
        train_stage(poisoned_stage, PLAN, run, config, verbose=0)
    names = {file.name for file in run.checkpoints("cgan").glob("*.index")}
    assert names == {"ckpt-2.index"}
    for weight in _restored(config, toy_dataset, run):
        assert np.isfinite(weight).all()


def _restored(config, dataset, run):
    (stage,) = build_stages(config, dataset)
    checkpoint = tf.train.Checkpoint(**stage.trainer.state())
    checkpoint.restore(tf.train.latest_checkpoint(run.checkpoints("cgan")))
    assert int(stage.trainer.step) == 2
    return stage.trainer.generator.get_weights()


def test_data_that_changed(config, toy_dataset, tmp_path):
    run = RunDirectory(tmp_path, config)
    check_same_data(run, toy_dataset)
    check_same_data(RunDirectory(tmp_path, config), toy_dataset)
    changed = dataclasses.replace(toy_dataset, fingerprint="4567")
    with pytest.raises(
        InputError,
        match="was started on other data: fingerprint 0123, now 4567. Put the "
        "data back, or start over with `--fresh`.",
    ):
        check_same_data(RunDirectory(tmp_path, config), changed)
    with pytest.raises(InputError, match="back, pass `--allow-changed-data`, "):
        check_same_data(RunDirectory(tmp_path, config), changed, False)
    run = RunDirectory(tmp_path, config)
    assert check_same_data(run, changed, True)
    assert not check_same_data(run, changed)
    assert run.state["fingerprint"] == "4567"
    assert run.state["earlier_fingerprints"] == ["0123"]
