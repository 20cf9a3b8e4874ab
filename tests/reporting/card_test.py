import argparse
import dataclasses
import json

import pytest

from gdd_keras.cli import add_config_flags
from gdd_keras.cli import given_settings
from gdd_keras.cli import resolve_config
from gdd_keras.config import InputError
from gdd_keras.config import config_to_json
from gdd_keras.config import make_config
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.metadata import update_metadata
from gdd_keras.report import main
from gdd_keras.reporting.card import build_card
from gdd_keras.reporting.card import write_card
from gdd_keras.reporting.inputs import read_inputs


@pytest.fixture
def model(export, config):
    """Version directory of a generator."""
    return export(
        config(
            data={"dataset": "my set", "class_balance": False},
            matching={"local_layer": ["block_1", "block_2"]},
        )
    )


@pytest.fixture
def folder(model, results, records, results_folder):
    """Results of the generator, of another one, and of real images."""
    content = results(
        [
            *records("mine", [0.80, 0.82]),
            *records("other", [0.5]),
            *records("real_stream", [0.9]),
            *records("real_stream", [0.7], network="mlp"),
            *records("full", [0.95], protocol="full_size"),
        ],
        generators=("mine", "other"),
        audit=[
            {
                "method": name,
                "num_generated": 2_000,
                "spaces": {"pixels": {"attack_auc": auc}},
                "command": 1,
                "environment": 0,
            }
            for name, auc in (("mine", 0.512), ("other", 0.731))
        ],
        commands=["evaluate a", "evaluate b", "evaluate c"],
    )
    content["methods"]["mine"]["digest"] = model_digest(model)
    return results_folder(content)


@pytest.fixture
def card_of(results, results_folder):
    """Function of a generator and records named `mine`: its card's text."""

    def build(model, entries):
        content = results(entries, generators=("mine",))
        content["methods"]["mine"]["digest"] = model_digest(model)
        return build_card(model, read_inputs([results_folder(content)]))

    return build


def test_card(model, folder, capsys):
    assert main([str(folder), "--card", str(model)]) == 0
    card = model / "README.md"
    assert capsys.readouterr().out == f"model card   {card}\n"
    text = card.read_text()
    assert "# toy, a distilled generator" in text
    assert "300 train / 30 validation / 90 test images" in text
    assert "| mine | 40 | 20 |" in text
    assert "| mine | 81.00 ± 1.41 (n=2) | 30,000 |" in text
    assert "| real_stream (ceiling) | 90.00 (one network) |" in text
    assert "full real training data, 95.00" in text
    assert "| attack auc | 0.512 |" in text
    # Not measured, and not of this generator.
    assert "## Quality\n\nNot measured." in text
    assert "| other |" not in text and "0.731" not in text
    assert "mlp" not in text
    assert "evaluate b" in text and "evaluate c" not in text
    assert "two cores" in text


def test_classification_accuracy_score(model, records, card_of):
    text = card_of(
        model,
        [
            *records("mine", [0.80], protocol="full_size"),
            *records("full", [0.95], protocol="full_size"),
        ],
    )
    assert "| mine | 80.00 (one network) |" in text
    assert "| full | 95.00 (one network) |" in text


def test_hard_figures_stay_when_a_labeller_is_added(
    model, export, config, records, results, results_folder
):
    digest = model_digest(model)
    labelled = export(
        config(), "saved_models/toy/2", labelled_from={"digest": digest}
    )
    content = results(
        [
            *records("before", [0.80]),
            *records("before", [0.99], labels="soft"),
            *records("mine", [0.85], labels="soft"),
        ],
        generators=("before", "mine", "other"),
    )
    for name, version in (("before", model), ("mine", labelled)):
        content["methods"][name]["digest"] = model_digest(version)
    text = build_card(labelled, read_inputs([results_folder(content)]))
    assert "| before | 80.00 (one network) |" in text
    assert "| mine | 85.00 (one network) |" in text
    note = "before: this generator before it had its labeller."
    assert note in text
    # Another labeller's.
    assert "99.00" not in text
    first = build_card(model, read_inputs([results_folder(content)]))
    assert "85.00" not in first and note not in first


def test_command_of_the_recipe_names_what_is_not_default(model, folder):
    text = write_card(model.parent, read_inputs([folder])).read_text()
    command = text.split("```sh\n")[1].split("\n```")[0]
    assert command == (
        "python -m gdd_keras.distill --dataset 'my set' --no-class-balance "
        "--local-layer block_1 block_2"
    )


def test_recipe_has_what_was_done_before_a_setting_existed(
    export, config, records, card_of
):
    old = config()
    del old["matching"]["distill_encoder"]
    text = card_of(export(old), records("mine", [0.8]))
    assert "--no-distill-encoder" in text


@pytest.mark.parametrize(
    ("values", "flags"), [({}, ""), ({"omega_l": 50.0}, "--omega-l 50.0 ")]
)
def test_recipe_without_an_encoder_has_other_defaults(
    values, flags, export, records, card_of
):
    config = make_config(latents="normal", **values)
    folder = export(json.loads(config_to_json(config)))
    text = card_of(folder, records("mine", [0.8]))
    command = text.split("```sh\n")[1].split("\n```")[0]
    assert command.endswith(f"--latents normal {flags}--preset compact")


def test_recipe_gives_the_same_settings(export, records, card_of):
    # What `paper` sets, and what was set back to the defaults of `compact`.
    config = make_config(
        "paper", latents="encoded", hard_share=0.5, image_size=(32, 28)
    )
    folder = export(json.loads(config_to_json(config)))
    text = card_of(folder, records("mine", [0.8]))
    command = text.split("```sh\n")[1].split("\n```")[0]
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    given = given_settings(parser.parse_args(command.split()[3:]))
    again = resolve_config(None, given, gpu=False)
    again = dataclasses.replace(
        again, run=dataclasses.replace(again.run, preset="paper")
    )
    assert again == config


@pytest.mark.parametrize("steps", [0, 7])
def test_recipe_in_a_time_budget_names_no_steps(
    steps, export, config, records, card_of
):
    settings = {
        "cgan": {"cgan_steps": 7},
        "matching": {"distill_steps": steps},
        "run": {"time_budget": 50.0},
    }
    text = card_of(export(config(**settings)), records("mine", [0.8]))
    command = text.split("```sh\n")[1].split("\n```")[0]
    assert "--time-budget 50.0" in command
    assert "--cgan-steps" not in command
    # Without it, stage 2 would have its share of the time.
    assert ("--distill-steps 0" in command) == (steps == 0)


def test_recipe_names_the_steps_of_an_adopted_stage_1(
    export, config, records, card_of
):
    training = {"steps": {"cgan": 12345, "distill": 7}, "adopted_stage_1": True}
    folder = export(config(cgan={"cgan_steps": 9}), training=training)
    text = card_of(folder, records("mine", [0.8]))
    command = text.split("```sh\n")[1].split("\n```")[0]
    assert "--cgan-steps 12345" in command


def test_recipe_of_refitted_latents(export, config, records, card_of):
    folder = export(
        config(generation={"mixture_centres": 3, "label_mixing": 0.25}),
        training={"trained_with": {"mixture_centres": 7, "soft_labels": True}},
    )
    text = card_of(folder, records("mine", [0.8]))
    trained, refitted = text.split("```sh\n")[1].split("\n```")[0].splitlines()
    assert "--mixture-centres 7 --label-mixing 0.25 --soft-labels" in trained
    assert trained.endswith("--run-dir RUN")
    assert refitted == (
        "python -m gdd_keras.refit --run RUN --mixture-centres 3 "
        "--no-soft-labels"
    )


@pytest.mark.parametrize("chosen", [{}, {"num_chosen": 8192}])
def test_recipe_of_hard_draws(chosen, export, config, records, card_of):
    folder = export(
        config(generation={"hard_share": 0.4, "mixture_centres": 3}),
        reweighted_from={
            "model": "saved_models/mnist/1",
            "digest": "0",
            "labeller_steps": 2000,
        },
        training={"trained_with": {"hard_share": 0.3}},
        **chosen,
    )
    text = card_of(folder, records("mine", [0.8]))
    limits = text.split("## Limits")[1]
    assert "- Hard images are favoured" in limits
    assert ("- Draws are near 8,192 chosen ones" in limits) == bool(chosen)
    commands = text.split("```sh\n")[1].split("\n```")[0].splitlines()
    trained, refitted, reweighted = commands
    assert "--mixture-centres 3 --hard-share 0.3" in trained
    assert refitted.endswith("--run RUN --hard-share 0.0")
    assert reweighted == (
        "python -m gdd_keras.reweight --model MODEL --hard-share 0.4 "
        "--labeller-steps 2000"
    )


@pytest.mark.parametrize("trained_with", [None, {}])
def test_recipe_of_an_export_made_again(
    trained_with, export, config, records, card_of
):
    folder = export(
        config(generation={"hard_share": 0.0}),
        training={"trained_with": trained_with},
    )
    text = card_of(folder, records("mine", [0.8]))
    assert "Hard images" not in text
    assert len(text.split("```sh\n")[1].split("\n```")[0].splitlines()) == 1


def test_example_of_the_card_runs(tiny_saved_model, records, card_of):
    text = card_of(tiny_saved_model, records("mine", [0.8]))
    found = {}
    exec(text.split("```python\n")[1].split("```")[0], found)
    assert found["images"].shape == (3, 6, 10, 3)
    assert "uint8 (3, 6, 10, 3)" in text


def test_card_of_a_run(export, config, run_folder, record):
    scores = {
        **record("generator", 0.5),
        "seeds": [0, 1],
        "accuracies": [0.5, 0.75],
    }
    run = run_folder(export=str(export(config(), scores=[scores])))
    material = read_inputs([run])
    model = json.loads((run / "state.json").read_text())["export"]
    text = write_card(model, material).read_text()
    assert "| toy | 62.50 ± 17.68 (n=2) | 30,000 |" in text


def test_generator_without_figures(model, results, records, results_folder):
    folder = results_folder(results(records("other", [0.5]), ("other",)))
    with pytest.raises(InputError, match="results have figures of.*other"):
        write_card(model, read_inputs([folder]))
    assert not (model / "README.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--card", "nowhere"], "`--card` must be an exported generator"),
        (["--card", "x", "--output", "y"], "written beside its model"),
    ],
)
def test_arguments_are_refused(arguments, message, folder, capsys):
    assert main([str(folder), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_soft_labels_are_mentioned(model, records, card_of):
    sentence = "A classifier of real images beside it gives the images soft"
    assert sentence not in card_of(model, records("mine", [0.5]))
    signatures = [*read_metadata(model)["signatures"], "soft_labels"]
    update_metadata(model, signatures=signatures)
    assert sentence in card_of(model, records("mine", [0.5]))
