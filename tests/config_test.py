import dataclasses
import json
import re

import pytest

from gdd_keras.config import PRESETS
from gdd_keras.config import Config
from gdd_keras.config import DataConfig
from gdd_keras.config import InputError
from gdd_keras.config import MatchingConfig
from gdd_keras.config import config_from_json
from gdd_keras.config import config_to_json
from gdd_keras.config import describe_differences
from gdd_keras.config import field_parser
from gdd_keras.config import make_config
from gdd_keras.config import section_fields


@pytest.mark.parametrize("preset", ["compact", "tiny", "paper"])
def test_paper_weights_are_the_defaults_without_an_encoder(preset):
    config = make_config(preset, latents="normal")
    matching = config.matching
    assert (matching.omega_g, matching.omega_l) == (0.01, 0.001)
    assert matching.pool == ("convnet3", "resnet10", "resnet18")
    assert matching.matching_reduction == "mean"
    # What says more than the default goes before it.
    assert make_config("paper") == make_config("paper", latents="normal")
    assert make_config("paper").matching.distill_steps == 39_100
    assert make_config("tiny", latents="normal").matching.distill_steps == 4
    given = make_config(preset, latents="normal", omega_l=2.0)
    assert given.matching.omega_l == 2.0
    assert make_config(base=config) == config
    with_encoder = make_config(base=config, latents="encoded")
    # Defaults follow the latents; what a preset says stays.
    if preset == "compact":
        assert with_encoder == make_config()
    assert with_encoder.matching.distill_steps == (
        3_200 if preset == "compact" else config.matching.distill_steps
    )


def test_field_names_are_unique_over_sections():
    names = [field.name for _, _, field, _ in section_fields()]
    assert len(names) == len(set(names))


def test_every_field_has_a_help_text():
    for _, _, field, _ in section_fields():
        text = field.metadata["help"]
        assert text.endswith((".", "it.")), field.name
        assert len(text) > 10, field.name


def test_defaults_are_valid_and_frozen():
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.run = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.run.seed = 3


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_build_and_are_recorded(preset):
    config = make_config(preset)
    assert config.run.preset == preset
    for name, value in PRESETS[preset].items():
        sections = [s for s, _, f, _ in section_fields() if f.name == name]
        assert getattr(getattr(config, sections[0]), name) == value


def test_no_preset_means_compact():
    assert make_config() == make_config("compact")


def test_settings_change_a_preset():
    config = make_config("tiny", omega_l=0.5, seed=7)
    assert config.matching.omega_l == 0.5
    assert config.run.seed == 7
    assert config.networks.latent_dim == 16


def test_settings_change_a_base_and_keep_the_rest():
    base = make_config("paper", seed=7)
    config = make_config(base=base, ipc=3)
    assert config.evaluation.ipc == 3
    assert make_config(base=config, ipc=base.evaluation.ipc) == base


def test_auto_must_be_resolved_first():
    with pytest.raises(InputError, match="`preset` must be one of compact"):
        make_config("auto")


def test_unknown_setting_names_near_ones():
    with pytest.raises(InputError, match=r"`omega_q` \(did you mean omega_"):
        make_config(omega_q=1.0)
    with pytest.raises(InputError, match="unknown key `zzzzzz`. Remove it"):
        make_config(zzzzzz=1)


@pytest.mark.parametrize("preset", PRESETS)
def test_json_round_trip(preset):
    config = make_config(
        preset, image_size=(40, 24), local_layer=("block_1", "block_2", "x")
    )
    text = config_to_json(config)
    assert config_from_json(text) == config
    assert config_to_json(config_from_json(text)) == text
    assert list(json.loads(text)) == [
        "data",
        "networks",
        "cgan",
        "matching",
        "generation",
        "labeller",
        "evaluation",
        "run",
    ]


def test_json_may_leave_keys_out():
    config = config_from_json('{"run": {"seed": 3}}')
    assert config == dataclasses.replace(
        Config(), run=dataclasses.replace(Config().run, seed=3)
    )


def test_files_keep_what_was_done_before_a_setting_existed():
    config = dataclasses.asdict(make_config(omega_l=0.5))
    del config["matching"]["distill_encoder"]
    matching = config_from_json(json.dumps(config)).matching
    assert (matching.distill_encoder, matching.drawn_share) == (False, 0.5)
    # From before there were either.
    del config["generation"]["mixture_centres"]
    del config["generation"]["hard_share"]
    del config["generation"]["soft_labels"]
    former = config_from_json(json.dumps(config))
    assert former.generation.mixture_centres == 1
    assert former.generation.hard_share == 0.0
    assert not former.generation.soft_labels
    del config["matching"]["drawn_share"]
    matching = config_from_json(json.dumps(config)).matching
    assert (matching.distill_encoder, matching.drawn_share) == (False, 0.0)
    assert matching.omega_l == 0.5
    # Whoever writes a few lines wants the defaults.
    del config["matching"]["omega_g"]
    matching = config_from_json(json.dumps(config)).matching
    assert (matching.distill_encoder, matching.drawn_share) == (True, 0.5)


def test_settings_that_are_no_more_are_left_out_where_they_did_nothing():
    config = dataclasses.asdict(make_config(hard_share=0.25))
    config["generation"]["difficulty"] = 0.0
    assert config_from_json(json.dumps(config)).generation.hard_share == 0.25
    # As runs of then have it, which had no share.
    del config["generation"]["hard_share"]
    assert config_from_json(json.dumps(config)).generation.hard_share == 0.0
    config["generation"]["difficulty"] = 5.0
    with pytest.raises(InputError, match="unknown key `difficulty`"):
        config_from_json(json.dumps(config))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"here.json must hold JSON. Received: "),
        ("[]", r"here.json must hold one JSON object per section \(data, "),
        ('{"run": 3}', "must hold one JSON object per section"),
        ('{"walk": {}}', "here.json has the unknown section `walk`"),
        (
            '{"run": {"sed": 1}}',
            r"here.json, section `run`: unknown key `sed` \(did you mean seed",
        ),
        (
            '{"run": {"seed": "1"}}',
            "here.json: `seed` must be of type int. Received: seed='1' of "
            "type str",
        ),
        ('{"matching": {"omega_g": NaN}}', "`omega_g` must be a finite number"),
        # A key of another section is unknown in this one.
        ('{"run": {"omega_g": 1.0}}', "section `run`: unknown key `omega_g`"),
    ],
)
def test_json_errors_name_the_file(text, message):
    with pytest.raises(InputError, match=message):
        config_from_json(text, "here.json")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("omega_g", -0.1, "`omega_g` must be a number >= 0.0. Received: "),
        ("omega_l", float("nan"), "`omega_l` must be a finite number"),
        ("omega_l", float("inf"), "`omega_l` must be a finite number"),
        (
            "ipc",
            0,
            "`ipc` must be an integer >= 1 and <= 1000000. Received: ipc=0.",
        ),
        ("ipc", 1.0, "`ipc` must be of type int. Received: ipc=1.0 of type"),
        ("ipc", True, "`ipc` must be of type int. Received: ipc=True"),
        ("seed", 2**31, "`seed` must be an integer >= 0 and <= 2147483647"),
        ("seed", None, "`seed` must be of type int. Received: seed=None"),
        ("ema_decay", 1.0, "`ema_decay` must be a number >= 0.0 and < 1.0"),
        (
            "validation_fraction",
            0.0,
            "`validation_fraction` must be a number > 0.0 and < 1.0",
        ),
        ("time_budget", 0.0, "`time_budget` must be a number > 0.0"),
        (
            "cgan_loss",
            "lsgan",
            "`cgan_loss` must be one of non_saturating, hinge, wgan_gp. "
            "Received: cgan_loss=lsgan.",
        ),
        ("pool", (), "`pool` must name at least one value. Received: none."),
        ("pool", ("convnet3", 3), "`pool` must be of type str. Received"),
        (
            "image_size",
            (32, 32, 32),
            "`image_size` must be one number or HEIGHTxWIDTH. Received: "
            "image_size=32x32x32.",
        ),
        ("image_size", (7,), "`image_size` must be an integer >= 8"),
        ("image_size", (32, 4), "`image_size` must be an integer >= 8"),
        ("class_balance", 1, "`class_balance` must be of type bool"),
    ],
)
def test_wrong_values_are_refused(name, value, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make_config(**{name: value})


def test_whole_numbers_pass_as_floats():
    omega_g = make_config(omega_g=1).matching.omega_g
    assert isinstance(omega_g, float)
    assert omega_g == 1.0


@pytest.mark.parametrize(
    ("given", "size"),
    [(32, (32, 32)), ((32,), (32, 32)), ([40, 24], (40, 24)), (None, None)],
)
def test_image_size_becomes_height_and_width(given, size):
    assert DataConfig(image_size=given).image_size == size


def test_one_name_becomes_a_tuple():
    assert MatchingConfig(pool="convnet3").pool == ("convnet3",)


def test_field_parsers():
    parsers = {f.name: field_parser(hint) for _, _, f, hint in section_fields()}
    assert parsers["image_size"]("40x24") == (40, 24)
    assert parsers["image_size"]("32") == (32,)
    assert parsers["seed"]("3") == 3
    assert parsers["time_budget"]("0.5") == 0.5
    assert parsers["pool"]("convnet3") == "convnet3"
    assert parsers["data_dir"]("folder") == "folder"
    # What argparse calls what does not parse.
    assert parsers["image_size"].__name__ == "number or HEIGHTxWIDTH"
    for name, text in (("image_size", "big"), ("seed", "1.5")):
        with pytest.raises(ValueError, match="invalid literal"):
            parsers[name](text)


def test_file_that_names_a_preset_or_latents_alone():
    # What it leaves out is as the same flags would have it.
    assert config_from_json('{"run": {"preset": "paper"}}') == (
        make_config("paper")
    )
    found = config_from_json('{"networks": {"latents": "normal"}}')
    assert found.matching == make_config(latents="normal").matching
    found = config_from_json(
        '{"run": {"preset": "paper"}, "networks": {"latents": "encoded"}}'
    )
    assert found == make_config("paper", latents="encoded")
    for preset in ("compact", "tiny", "paper"):
        config = make_config(preset)
        assert config_from_json(config_to_json(config)) == config


def test_other_latents_move_the_defaults_of_stage_2():
    normal, encoded = make_config(latents="normal"), make_config()
    assert make_config(base=encoded, latents="normal") == normal
    assert make_config(base=normal, latents="encoded") == encoded
    # What was chosen stays.
    chosen = make_config(omega_l=7.0)
    assert make_config(base=chosen, latents="normal").matching.omega_l == 7.0
    given = make_config(base=encoded, latents="normal", omega_l=3.0)
    assert given.matching.omega_l == 3.0


def test_differences_name_both_values():
    there = make_config("tiny", seed=3, omega_g=0.25)
    here = make_config("tiny", seed=4)
    assert there.run.differences(here.run) == {"seed": (3, 4)}
    assert there.run.differences(here.run, but=("seed",)) == {}
    assert there.data.differences(here.data) == {}
    both = there.run.differences(here.run)
    both |= there.matching.differences(here.matching)
    assert describe_differences(both) == (
        "seed=3 there, 4 here; omega_g=0.25 there, "
        f"{here.matching.omega_g} here"
    )
    assert describe_differences({}) == ""
