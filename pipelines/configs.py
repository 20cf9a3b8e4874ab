"""Constants of the pipeline, and what its components hand each other.

Nothing here imports TFX or TensorFlow.
"""

import dataclasses
import hashlib
import json

from gdd_keras.config import Config
from gdd_keras.config import TuningConfig
from gdd_keras.config import config_from_json
from gdd_keras.config import config_to_json

__all__ = [
    "PIPELINE_NAME",
    "RUN_FOLDER",
    "Settings",
]

# Kubeflow allows no underscore.
PIPELINE_NAME = "gdd-keras"
# Beside the SavedModel of stage 1: its run, with the last checkpoint.
RUN_FOLDER = "run"


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides what the components compute.

    Attributes:
        config: `Config` of the run.
        tuning: `TuningConfig` of the search.
        space: Dict from field to the values that the search may choose from;
            empty for no search.
        threshold: Accuracy on held-out images, in [0, 1], below which a
            model is not blessed.
        distilled_ipc: Images per class of the distilled set; 0 for none.
        data_identity: Text that changes with the data, see `RawData`.
        code: Digest of the code: TFX's cache knows nothing of modules that
            are named by their import path.
    """

    config: Config
    tuning: TuningConfig = dataclasses.field(default_factory=TuningConfig)
    space: dict = dataclasses.field(default_factory=dict)
    threshold: float = 0.0
    distilled_ipc: int = 0
    data_identity: str = ""
    code: str = ""

    def custom_config(self, work_dir):
        """Returns what `Trainer` and `Tuner` take as `custom_config`.

        Args:
            work_dir: Folder of unfinished training, see `module_file`. Other
                code and other data get a folder of their own in it: what was
                begun with those is not continued.
        """
        data = hashlib.sha256(self.data_identity.encode()).hexdigest()
        return {
            "config": config_to_json(self.config),
            "tuning": json.dumps(dataclasses.asdict(self.tuning)),
            "space": json.dumps(self.space),
            "work_dir": f"{work_dir}/{self.code}-{data[:8]}",
        }

    @classmethod
    def from_custom_config(cls, values):
        """Returns the `Settings` of a `custom_config`, and its `work_dir`."""
        space = json.loads(values["space"])
        settings = cls(
            config=config_from_json(values["config"], "custom_config"),
            tuning=TuningConfig(**json.loads(values["tuning"])),
            space={name: tuple(given) for name, given in space.items()},
        )
        return settings, values["work_dir"]
