import copy
import json

import pytest

from gdd_keras.config import Config
from gdd_keras.config import config_to_json

# An image of one grey pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c63680000008200819a1b4a0d00000000"
    "49454e44ae426082"
)

DATASET = {
    "name": "toy",
    "source": "a test",
    "image_shape": [8, 8, 1],
    "num_classes": 3,
    "class_names": ["a", "b", "c"],
    "num_images": {"train": 300, "validation": 30, "test": 90},
    "fingerprint": "0123",
}


def make_record(method, accuracy, seed=0, **changes):
    protocol = changes.get("protocol", "stream")
    return {
        "method": method,
        "selection": "random",
        "protocol": protocol,
        "ipc": None if protocol == "full_size" else 10,
        "network": "convnet3",
        "seed": seed,
        "epochs": 1000,
        "learning_rate": 0.01,
        "augmentation": "crop",
        "precision": "float32",
        "split": "test",
        "distinct_images": 30_000,
        "accuracy": accuracy,
        "seconds": 1.5,
        "command": 0,
        "environment": 0,
        **changes,
    }


def make_records(method, accuracies, **changes):
    return [
        make_record(method, accuracy, seed, **changes)
        for seed, accuracy in enumerate(accuracies)
    ]


def make_config(**sections):
    config = json.loads(config_to_json(Config()))
    for section, values in sections.items():
        config[section].update(values)
    return config


def make_results(records=(), generators=("gdd",), **changes):
    content = {
        "kind": "gdd_keras results",
        "format": 1,
        "dataset": DATASET,
        "methods": {
            name: {
                "kind": "generator",
                "model": f"saved_models/{name}/1",
                "digest": f"digest of {name}",
                "num_bytes": 9_600,
                "config": None,
                "training": {"steps": {"cgan": 40, "distill": 20}},
            }
            for name in generators
        },
        "records": list(records),
        "commands": ["python -m gdd_keras.evaluate --model x"],
        "environments": [
            {
                "machine": "two cores",
                "device": "cpu",
                "python": "3.11.2",
                "versions": {"keras": "3.15.1"},
            }
        ],
        **changes,
    }
    return copy.deepcopy(content)


@pytest.fixture(scope="session")
def png():
    return PNG


@pytest.fixture(scope="session")
def record():
    return make_record


@pytest.fixture(scope="session")
def records():
    return make_records


@pytest.fixture(scope="session")
def config():
    return make_config


@pytest.fixture(scope="session")
def results():
    return make_results


@pytest.fixture
def results_folder(tmp_path):
    """Function that writes a results folder and returns it."""

    def write(content, name="results"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "results.json").write_text(json.dumps(content))
        return folder

    return write


@pytest.fixture
def material(results_folder):
    """Function from records (and changes) to `Material`."""
    from gdd_keras.reporting.inputs import read_inputs

    def make(records=(), **changes):
        return read_inputs([results_folder(make_results(records, **changes))])

    return make


@pytest.fixture
def run_folder(tmp_path):
    """Function that writes the folder of a run and returns it."""

    def write(name="toy", export=None, config=None, **state):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(
            json.dumps(make_config() if config is None else config)
        )
        state = {
            "stages": {
                "cgan": {"steps": 40, "done": True},
                "distill": {"steps": 20, "done": True},
            },
            "seconds": 90.0,
            "done": True,
            "fingerprint": "0123",
            **state,
        }
        if export is not None:
            state["export"] = export
        (folder / "state.json").write_text(json.dumps(state))
        return folder

    return write


@pytest.fixture
def export(tmp_path):
    """Function that writes what is read of an export."""

    def write(config, name="saved_models/toy/1", **changes):
        folder = tmp_path / name
        (folder / "variables").mkdir(parents=True)
        (folder / "saved_model.pb").write_bytes(b"graph")
        (folder / "variables" / "variables.data-00000-of-00001").write_bytes(
            name.encode()
        )
        metadata = {
            "class_names": DATASET["class_names"],
            "image_shape": DATASET["image_shape"],
            "latent_dim": 4,
            "num_classes": 3,
            "num_parameters": 100,
            "num_bytes": 4_800,
            "signatures": [],
            "versions": {"keras": "3.15.1"},
            "created": "2026-11-22T16:12:52+00:00",
            "config": config,
            "dataset": DATASET,
            "scores": [],
            **changes,
        }
        (folder / "metadata.json").write_text(json.dumps(metadata))
        return folder

    return write
