"""Every setting of a run: frozen dataclasses, presets, JSON round trip.

Nothing here imports TensorFlow, so that a command line can be parsed, checked
and explained within a second. Flags, help texts and defaults of all commands
are derived from the fields below; a default exists in one place.
"""

import collections
import contextlib
import dataclasses
import json
import math
import operator
import os
import reprlib
import types
import typing

__all__ = [
    "BASELINES",
    "CGANConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "GenerationConfig",
    "InputError",
    "LABEL_TYPES",
    "LabellerConfig",
    "MatchingConfig",
    "NetworkConfig",
    "POOL_NETWORKS",
    "PRESETS",
    "RunConfig",
    "RunError",
    "TEST_NETWORKS",
    "TUNERS",
    "TuningConfig",
    "WEIGHT_TYPES",
    "about",
    "checked_integer",
    "checked_text",
    "config_from_json",
    "config_to_json",
    "describe_differences",
    "field_parser",
    "make_config",
    "matching_defaults",
    "parse_json",
    "section_fields",
    "shown",
    "with_former_settings",
]

POOL_NETWORKS = ("convnet3", "resnet10", "resnet18")
# Rows beside the generators, and the protocol that each belongs to.
BASELINES = {
    "random": "fixed",
    "herding": "fixed",
    "k_center": "fixed",
    "forgetting": "fixed",
    "dm": "fixed",
    "real_stream": "stream",
    "full": "full_size",
}
WEIGHT_TYPES = ("float32", "float16")
LABEL_TYPES = ("hard", "soft")
TUNERS = ("random", "bayesian", "hyperband", "grid")
TEST_NETWORKS = (
    "convnet3",
    "resnet10",
    "resnet18",
    "alexnet",
    "vgg11",
    "mlp",
)
# Limits far above any use. Beyond them a number is a slip, and would fail
# late: in a counter of TensorFlow, or by filling the memory.
_MANY_STEPS = 10**8
_MANY_EPOCHS = 10**5
_MANY_IMAGES = 10**6
_MANY_NETWORKS = 1000
_WIDEST = 4096
_MOST_VALUES = 100
_YEAR_IN_MINUTES = 525_600.0
_WEEK_IN_SECONDS = 604_800.0
# Everything is computed in float32, where larger numbers are infinite.
_LARGEST_FLOAT = 3.4e38

# What was done before a setting existed, where its default does otherwise.
_BEFORE = {
    "matching": {"drawn_share": 0.0, "distill_encoder": False},
    "generation": {
        "mixture_centres": 1,
        "hard_share": 0.0,
        "soft_labels": False,
    },
}

# Settings of before, at the value that did nothing.
_GONE = [("generation", "difficulty", 0.0)]

# Levels of nesting in JSON; ours have half as many.
_DEEPEST = 16
_MAX_PATH_BYTES = 4095
_MAX_NAME_BYTES = 255


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message says what was expected, what came and what to do. Commands
    print it without a traceback and end with exit code 2.
    """


@contextlib.contextmanager
def about(field):
    """Names the setting that an error inside is about, if it does not itself.

    Args:
        field: Name of the setting.

    Raises:
        InputError: Instead of one from inside.
    """
    try:
        yield
    except InputError as error:
        if f"`{field}`" in str(error):
            raise
        raise InputError(f"`{field}`: {error}") from error


class RunError(RuntimeError):
    """A run that cannot go on: what happened, and what is left of it."""


def option(
    default,
    help_text,
    *,
    choices=None,
    minimum=None,
    maximum=None,
    above=None,
    below=None,
):
    """Declares a config field with its help text and its valid range.

    Args:
        default: Default value.
        help_text: One sentence for `--help` and the docs.
        choices: Allowed values (of each item, for a tuple field).
        minimum: Smallest allowed value, inclusive.
        maximum: Largest allowed value, inclusive.
        above: Exclusive lower bound.
        below: Exclusive upper bound.

    Returns:
        A `dataclasses.field` whose metadata carries all of this.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": help_text,
            "choices": choices,
            "minimum": minimum,
            "maximum": maximum,
            "above": above,
            "below": below,
        },
    )


@dataclasses.dataclass(frozen=True)
class _Section:
    """Checks every field against its declared type, choices and range."""

    def __post_init__(self):
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            checked = _checked(field, hints[field.name], value)
            object.__setattr__(self, field.name, checked)

    def differences(self, other, but=()):
        """Compares with other settings of the same kind.

        Args:
            other: Of this class.
            but: Names of fields that do not count.

        Returns:
            Dict from the names of fields that differ to (own, other value).
        """
        found = {}
        for name, value in vars(self).items():
            if name not in but and value != getattr(other, name):
                found[name] = value, getattr(other, name)
        return found


@dataclasses.dataclass(frozen=True)
class DataConfig(_Section):
    """What to distil."""

    dataset: str = option(
        "digits",
        "`digits`, a TFDS name, a folder with train/<class>/ images or one "
        "that TFDS prepared, or an .npz file with `images` and `labels`.",
    )
    data_dir: str | None = option(
        None,
        "Where prepared TFDS data lies (default: $TFDS_DATA_DIR, then "
        "~/tensorflow_datasets).",
    )
    image_size: tuple[int, ...] | None = option(
        None,
        "Training size: one number, or HEIGHTxWIDTH (default: the size of "
        "the images; 32 for MNIST and Fashion-MNIST, as in the paper).",
        minimum=8,
        maximum=1024,
    )
    validation_fraction: float = option(
        0.1,
        "Part of the training split held out, stratified by class.",
        above=0.0,
        below=1.0,
    )
    class_balance: bool = option(
        True,
        "Draw every class equally often; `--no-class-balance` draws images "
        "as often as they occur.",
    )
    memory_limit_mb: int = option(
        2048,
        "Sets above this many MB of uint8 pixels stream from a cache file.",
        minimum=0,
        maximum=2**30,
    )
    cache_dir: str | None = option(
        None,
        "Where the cache of a streamed set lies (default: ~/.cache/gdd_keras).",
    )
    download_timeout: float = option(
        1800.0,
        "Seconds that a TFDS download may take.",
        above=0.0,
        maximum=_WEEK_IN_SECONDS,
    )


@dataclasses.dataclass(frozen=True)
class NetworkConfig(_Section):
    """Generator and discriminator."""

    generator: str = option(
        "residual",
        "`compact`: one transposed convolution per resolution; `residual`: "
        "the same, each followed by a residual convolution; `dim`: DiM's "
        "constant-width stack.",
        choices=("compact", "residual", "dim"),
    )
    discriminator: str = option(
        "compact",
        "`compact`: strided, spectrally normalised; `dim`: DiM's eight "
        "convolutions with layer normalisation.",
        choices=("compact", "dim"),
    )
    latents: str = option(
        "encoded",
        "`encoded`: an encoder learns them from real images, and a mixture "
        "fitted to its latents is drawn from; `normal`: N(0, I), as published, "
        "and by default the paper's weights and pool in stage 2.",
        choices=("encoded", "normal"),
    )
    latent_dim: int = option(
        64, "Length of the latent vector z.", minimum=1, maximum=4096
    )
    generator_width: int = option(
        32,
        "Channels of the generator at full resolution (`dim`: everywhere).",
        minimum=1,
        maximum=_WIDEST,
    )
    discriminator_width: int = option(
        64,
        "Channels of the discriminator's first layer (`dim`: everywhere).",
        minimum=1,
        maximum=_WIDEST,
    )
    discriminator_gain: float = option(
        4.0,
        "Factor after each convolution of the `compact` discriminator; more "
        "lets it see smaller errors.",
        above=0.0,
        maximum=100.0,
    )
    discriminator_stem: int = option(
        32,
        "Channels of a convolution at full resolution before those of the "
        "`compact` discriminator; 0 for none.",
        minimum=0,
        maximum=_WIDEST,
    )
    encoder_width: int = option(
        64,
        "Channels of the encoder's first layer.",
        minimum=1,
        maximum=_WIDEST,
    )
    conditioning: str = option(
        "auxiliary",
        "How the discriminator sees the label: `auxiliary` classifier head "
        "or `projection` of the label embedding.",
        choices=("auxiliary", "projection"),
    )


@dataclasses.dataclass(frozen=True)
class CGANConfig(_Section):
    """Stage 1: conditional GAN."""

    cgan_loss: str = option(
        "hinge",
        "Adversarial loss; `non_saturating` is eq. 4 of the paper, `wgan_gp` "
        "is DiM's.",
        choices=("non_saturating", "hinge", "wgan_gp"),
    )
    cgan_steps: int = option(
        16_000,
        "Training steps of stage 1 (`--time-budget` replaces them).",
        minimum=1,
        maximum=_MANY_STEPS,
    )
    batch_size: int = option(
        64,
        "Real images per training step, both stages.",
        minimum=2,
        maximum=2**16,
    )
    generator_learning_rate: float = option(
        4e-4, "Adam's rate for the generator in stage 1.", above=0.0
    )
    discriminator_learning_rate: float = option(
        4e-4, "Adam's rate for the discriminator in stage 1.", above=0.0
    )
    adam_beta_1: float = option(
        0.0, "Adam's first-moment decay.", minimum=0.0, below=1.0
    )
    adam_beta_2: float = option(
        0.9, "Adam's second-moment decay.", minimum=0.0, below=1.0
    )
    auxiliary_weight: float = option(
        0.2,
        "Weight of the generator's class loss under `auxiliary`.",
        minimum=0.0,
    )
    elbo_weight: float = option(
        1.2,
        "Weight of the evidence lower bound under `--latents encoded`; the "
        "adversarial loss has 1.",
        minimum=0.0,
    )
    pixel_variance: float = option(
        0.02,
        "Variance of the noise that the bound allows to pixels in [-1, 1]; "
        "more makes latents rougher and easier to draw.",
        above=0.0,
    )
    gradient_penalty_weight: float = option(
        10.0, "Weight of the gradient penalty of `wgan_gp`.", minimum=0.0
    )
    gradient_penalty_every: int = option(
        1,
        "Steps between gradient penalties, each as many times heavier; 1 as "
        "published, 4 saves a quarter of the time.",
        minimum=1,
        maximum=1000,
    )
    ema_decay: float = option(
        0.999,
        "Decay of the generator's moving average (0 switches it off).",
        minimum=0.0,
        below=1.0,
    )
    gan_augmentation: str = option(
        "none",
        "Augmentation of all that the discriminator sees, for small sets.",
        choices=("auto", "none", "crop", "color_crop"),
    )
    decay_fraction: float = option(
        0.5,
        "Last part of each stage over which learning rates fall linearly.",
        minimum=0.0,
        maximum=1.0,
    )


@dataclasses.dataclass(frozen=True)
class MatchingConfig(_Section):
    """Stage 2: global and local matching under a random pool."""

    distill_steps: int = option(
        3200,
        "Training steps of stage 2 (`--time-budget` replaces them); 0 skips "
        "it.",
        minimum=0,
        maximum=_MANY_STEPS,
    )
    distill_seed: int | None = option(
        None,
        "Seed of stage 2, to repeat it from one stage 1 (default: `seed`).",
        minimum=0,
        maximum=2**31 - 1,
    )
    omega_g: float = option(
        0.3, "Weight of the global (logit) loss of eq. 6.", minimum=0.0
    )
    omega_l: float = option(
        50.0, "Weight of the local (feature) loss of eq. 7.", minimum=0.0
    )
    matching_reduction: str = option(
        "mean",
        "Reduction of the squares in eq. 6 and 7: over images and units "
        "(`mean`), or as the paper writes them (`sum`).",
        choices=("mean", "sum"),
    )
    pool: tuple[str, ...] = option(
        ("convnet3",),
        "Networks to draw from: names, or `package.module:function`.",
    )
    local_layer: tuple[str, ...] = option(
        ("block_2",),
        "Block whose features eq. 7 compares: one for all, or one for each "
        "network of the pool in order.",
    )
    pool_redraw_steps: int = option(
        3200,
        "Steps between draws of a fresh pool network.",
        minimum=1,
        maximum=_MANY_STEPS,
    )
    pool_train_steps: int = option(
        1,
        "SGD steps of the drawn network on real images before each step.",
        minimum=0,
        maximum=256,
    )
    pool_learning_rate: float = option(
        0.01, "SGD rate of the drawn network.", above=0.0
    )
    distill_learning_rate: float = option(
        2e-4, "Adam's rate for the generator in stage 2.", above=0.0
    )
    distill_discriminator_learning_rate: float = option(
        2e-4, "Adam's rate for the discriminator in stage 2.", above=0.0
    )
    drawn_share: float = option(
        0.5,
        "Share of the generated images of stage 2 whose latents are drawn as "
        "in the export; the others are made from real images.",
        minimum=0.0,
        below=1.0,
    )
    distill_encoder: bool = option(
        True,
        "Let the encoder learn on in stage 2, so that latents keep what the "
        "networks of the pool see.",
    )
    matching_augmentation: str = option(
        "crop",
        "Differentiable augmentation shared by real and generated pairs.",
        choices=("auto", "none", "crop", "color_crop"),
    )


@dataclasses.dataclass(frozen=True)
class GenerationConfig(_Section):
    """Stage 3: generation on demand."""

    mixture_components: int = option(
        20,
        "Most Gaussians per class in the mixture of `--latents encoded`; small "
        "classes get fewer.",
        minimum=1,
        maximum=2_000,
    )
    # Half precision, in which their bounds are kept, hardly tells more apart.
    mixture_centres: int = option(
        500,
        "Most centres per class that these Gaussians divide among them, one "
        "each at least; small classes get fewer.",
        minimum=1,
        maximum=2_000,
    )
    latent_confidence: float = option(
        0.0,
        "Real images whose class the discriminator believes less than this "
        "are left out of the mixture.",
        minimum=0.0,
        maximum=1.0,
    )
    hard_share: float = option(
        0.5,
        "Share of the draws that are chosen by how hard they are for networks "
        "that have seen little; the others are chosen evenly, and what a "
        "labeller takes for another class hardly ever. 0 leaves draws as they "
        "are, and needs no labeller.",
        minimum=0.0,
        below=1.0,
    )
    label_mixing: float = option(
        0.0,
        "Largest share of another class in the label vector, built into the "
        "export; makes harder images under `auxiliary`.",
        minimum=0.0,
        maximum=1.0,
    )
    weights: str = option(
        "float32",
        "Type in which the export stores its weights; `float16` is half the "
        "bytes, computed with in float32.",
        choices=WEIGHT_TYPES,
    )
    soft_labels: bool = option(
        False,
        "Export a labeller too: a small network, trained on the real images "
        "before all else, that gives every image a probability for each "
        "class.",
    )


@dataclasses.dataclass(frozen=True)
class LabellerConfig(_Section):
    """The labeller: gives soft labels, and judges which draws are right."""

    labeller_steps: int = option(
        2000,
        "Training steps of the labeller, of about 256 real images.",
        minimum=1,
        maximum=_MANY_STEPS,
    )
    label_temperature: float = option(
        1.5,
        "What the labeller's logits are divided by; more makes soft labels "
        "softer.",
        above=0.0,
    )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(_Section):
    """How a generator is scored: the protocols `stream` and `fixed`."""

    protocol: str = option(
        "stream",
        "`stream`: fresh images in every batch; `fixed`: a stored set.",
        choices=("stream", "fixed"),
    )
    ipc: int = option(
        10,
        "Images per class: per epoch under `stream`, in all under `fixed`.",
        minimum=1,
        maximum=_MANY_IMAGES,
    )
    num_seeds: int = option(
        5,
        "Networks trained from scratch; 0 skips scoring.",
        minimum=0,
        maximum=_MANY_NETWORKS,
    )
    network: str = option(
        "convnet3",
        "Network to train: a name, or `package.module:function`.",
    )
    eval_epochs: int = option(
        1000, "Epochs of IPC x classes images.", minimum=1, maximum=_MANY_EPOCHS
    )
    eval_learning_rate: float = option(
        0.01, "SGD's rate (momentum 0.9, weight decay 5e-4).", above=0.0
    )
    eval_schedule: str = option(
        "protocol",
        "Learning rate of the networks; `protocol`: constant under `stream`, "
        "a tenth after half time under `fixed`; `step`: the latter under both, "
        "which leaves less noise in an accuracy.",
        choices=("protocol", "step"),
    )
    eval_augmentation: str = option(
        "auto",
        "Augmentation while the network trains; `auto`: the data's own under "
        "`stream`, siamese (`dsa`) under `fixed`. `none` may teach more under "
        "`stream`, where nothing repeats.",
        choices=("auto", "none", "crop", "color_crop", "dsa", "dsa_digits"),
    )
    eval_precision: str = option(
        "float32",
        "Arithmetic of the networks; `mixed_bfloat16` is faster on GPUs and "
        "on CPUs with AVX-512 BF16.",
        choices=("float32", "mixed_bfloat16"),
    )
    eval_labels: str = option(
        "hard",
        "`soft`: networks learn the probabilities that a generator of "
        "`--soft-labels` gives to its images. The paper's figures, and all "
        "rows of real images, are `hard`.",
        choices=LABEL_TYPES,
    )
    reference_epochs: int = option(
        10,
        "Epochs on the real training images of the network that selects and "
        "compares images, and is the row `full`.",
        minimum=2,
        maximum=_MANY_EPOCHS,
    )
    candidates: int = option(
        200,
        "Generated images per class that the selections `herding` and "
        "`k_center` choose from; at least ten per image kept.",
        minimum=1,
        maximum=_MANY_IMAGES,
    )
    dm_steps: int = option(
        500,
        "Steps of the baseline distribution matching.",
        minimum=1,
        maximum=_MANY_STEPS,
    )


@dataclasses.dataclass(frozen=True)
class RunConfig(_Section):
    """The run itself."""

    preset: str = option(
        "auto",
        "`tiny` (tests), `compact` (2 cores), `paper` (DiM's widths and "
        "loss, for a GPU); `auto` takes `paper` on a GPU, else `compact`.",
        choices=("auto", "tiny", "compact", "paper"),
    )
    seed: int = option(0, "Seed of everything.", minimum=0, maximum=2**31 - 1)
    time_budget: float | None = option(
        None,
        "Minutes for data, labeller, both stages, hard draws and the export "
        "together; replaces the step counts.",
        above=0.0,
        maximum=_YEAR_IN_MINUTES,
    )
    cgan_share: float = option(
        0.75,
        "Part of the training time of `--time-budget` that stage 1 gets.",
        above=0.0,
        below=1.0,
    )
    steps_per_epoch: int | None = option(
        None,
        "Steps between checkpoints and image grids (default: one pass over "
        "the training images, at least 200).",
        minimum=1,
        maximum=_MANY_STEPS,
    )
    monitor_every: int = option(
        0,
        "Epochs between accuracies on held-out images, of a network trained "
        "for 300 steps on generated ones (0: none).",
        minimum=0,
        maximum=_MANY_STEPS,
    )
    steps_per_execution: int = option(
        4, "Training steps per call into TensorFlow.", minimum=1, maximum=1000
    )
    precision: str = option(
        "auto",
        "Arithmetic of training; `auto` takes `mixed_bfloat16` on GPUs and "
        "CPUs that compute in it. The export is float32 in any case.",
        choices=("auto", "float32", "mixed_bfloat16"),
    )
    jit: str = option(
        "auto",
        "Whether XLA compiles the training steps; `auto` does so on GPUs (on "
        "CPUs it halves the speed of convolutions).",
        choices=("auto", "on", "off"),
    )
    strategy: str = option(
        "none",
        "`mirrored` shares every batch out among all GPUs of this machine, "
        "else its CPU devices; results stay the same but for rounding.",
        choices=("none", "mirrored"),
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run, by section."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    networks: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    cgan: CGANConfig = dataclasses.field(default_factory=CGANConfig)
    matching: MatchingConfig = dataclasses.field(default_factory=MatchingConfig)
    generation: GenerationConfig = dataclasses.field(
        default_factory=GenerationConfig
    )
    labeller: LabellerConfig = dataclasses.field(default_factory=LabellerConfig)
    evaluation: EvaluationConfig = dataclasses.field(
        default_factory=EvaluationConfig
    )
    run: RunConfig = dataclasses.field(default_factory=RunConfig)

    @property
    def trains_labeller(self):
        """Whether a run needs a labeller, exported or not."""
        return self.generation.soft_labels or self.generation.hard_share > 0.0


@dataclasses.dataclass(frozen=True)
class TuningConfig(_Section):
    """The search: which trials, and how each is scored on held-out images."""

    tuner: str = option(
        "random",
        "KerasTuner's strategy; `hyperband` continues the best trials, "
        "`grid` tries every combination.",
        choices=TUNERS,
    )
    max_trials: int = option(
        12, "Trials of `random` and `bayesian`.", minimum=1, maximum=100_000
    )
    trial_repeats: int = option(
        1,
        "Times that each trial trains stage 2, with seeds of its own.",
        minimum=1,
        maximum=_MANY_NETWORKS,
    )
    trial_networks: int = option(
        3,
        "Networks trained on each generator, whose mean accuracy on the "
        "held-out part is the objective.",
        minimum=1,
        maximum=_MANY_NETWORKS,
    )
    trial_ipc: int = option(
        10,
        "Generated images per class and epoch for them.",
        minimum=1,
        maximum=_MANY_IMAGES,
    )
    trial_epochs: int = option(
        200, "Epochs of each of them.", minimum=1, maximum=_MANY_EPOCHS
    )


# The stage 2 of `--latents normal`, from the paper's weights. Pairs that share
# no more than a label differ a hundred times as much as an image and its
# reconstruction, so that the defaults would leave nothing but matching.
_UNPAIRED_MATCHING = {
    "distill_steps": 1000,
    "omega_g": 0.01,
    "omega_l": 0.001,
    "pool": POOL_NETWORKS,
    "pool_redraw_steps": 200,
    "distill_learning_rate": 1e-4,
    "drawn_share": 0.0,
    "distill_encoder": False,
    "matching_augmentation": "auto",
}

# Presets are data: field names are unique over all sections, so that a flat
# mapping is enough here, on the command line and in `make_config`.
PRESETS = {
    "compact": {},
    "tiny": {
        "generator": "compact",
        "discriminator_gain": 2.0,
        "discriminator_stem": 0,
        "auxiliary_weight": 1.0,
        "latent_dim": 16,
        "generator_width": 8,
        "discriminator_width": 8,
        "encoder_width": 8,
        "mixture_components": 2,
        "mixture_centres": 4,
        "hard_share": 0.0,
        "batch_size": 16,
        "cgan_steps": 8,
        "distill_steps": 4,
        "steps_per_epoch": 4,
        "steps_per_execution": 1,
        "pool_redraw_steps": 2,
        "num_seeds": 1,
        "ipc": 1,
        "eval_epochs": 10,
    },
    # DiM's published settings; see docs/method.md.
    "paper": {
        "latents": "normal",
        "latent_dim": 90,
        "discriminator_gain": 1.0,
        "discriminator_stem": 0,
        "generator": "dim",
        "discriminator": "dim",
        "generator_width": 196,
        "discriminator_width": 196,
        "conditioning": "auxiliary",
        "auxiliary_weight": 1.0,
        "cgan_loss": "wgan_gp",
        # 150 and 100 epochs of CIFAR-10's 50,000 images.
        "cgan_steps": 58_600,
        "batch_size": 128,
        "generator_learning_rate": 1e-4,
        "discriminator_learning_rate": 1e-4,
        "ema_decay": 0.0,
        "decay_fraction": 0.0,
        "hard_share": 0.0,
        "distill_steps": 39_100,
        # Once an epoch.
        "pool_redraw_steps": 390,
        "pool_train_steps": 16,
        "distill_learning_rate": 5e-6,
        "distill_discriminator_learning_rate": 5e-6,
    },
}


def section_fields(sections=None):
    """Yields `(section name, section class, field, type hint)` in order.

    Args:
        sections: Dict from name to class, or `None` for those of `Config`.
    """
    if sections is None:
        sections = {f.name: f.type for f in dataclasses.fields(Config)}
    for name, section_class in sections.items():
        hints = typing.get_type_hints(section_class)
        for field in dataclasses.fields(section_class):
            yield name, section_class, field, hints[field.name]


def matching_defaults(latents):
    """Returns the settings of stage 2 whose defaults the latents change.

    Args:
        latents: As in `NetworkConfig`, or `None` for its default.

    Returns:
        Dict from field name to value.
    """
    return _UNPAIRED_MATCHING if latents == "normal" else {}


def make_config(preset=None, base=None, **settings):
    """Builds a `Config` from a preset, an optional base and single settings.

    Without an encoder (`latents="normal"`) the settings of stage 2 have other
    defaults: the paper's weights and pool.

    Args:
        preset: Name of a preset, or `None` for the defaults (`compact`).
            Must be resolved: `"auto"` depends on the machine and is resolved
            by `gdd_keras.distill`.
        base: A `Config` that the settings change; excludes `preset`.
        **settings: Field name to value, over all sections.

    Returns:
        A `Config`; `run.preset` records the preset.

    Raises:
        InputError: On an unknown field, preset, type or range.
    """
    values = {}
    if base is None:
        name = preset or "compact"
        if not isinstance(name, str) or name not in PRESETS:
            raise InputError(
                f"`preset` must be one of {', '.join(sorted(PRESETS))}. "
                f"Received: preset={shown(name)}."
            )
        values.update(_preset_values(name, settings), preset=name)
    else:
        for section, _, field, _ in section_fields():
            values[field.name] = getattr(getattr(base, section), field.name)
        values.update(_moved_defaults(values, settings))
    values.update(settings)
    sections = {}
    for section, section_class, field, _ in section_fields():
        entry = sections.setdefault(section, (section_class, {}))
        if field.name in values:
            entry[1][field.name] = values.pop(field.name)
    if values:
        raise InputError(_unknown_keys(values))
    return Config(
        **{name: build(**fields) for name, (build, fields) in sections.items()}
    )


def _preset_values(preset, settings):
    """Returns what a preset sets, and the latents that it or settings name.

    Args:
        preset: Its name; an unknown one sets nothing.
        settings: Dict from field to value, of which the latents count.
    """
    values = PRESETS.get(preset, {})
    latents = settings.get("latents", values.get("latents"))
    return {**matching_defaults(latents), **values}


def _moved_defaults(values, settings):
    """Returns what follows from other latents, where it was the default."""
    before, after = (
        matching_defaults(of.get("latents", values["latents"]))
        for of in (values, settings)
    )
    defaults = {f.name: f.default for f in dataclasses.fields(MatchingConfig)}
    return {
        name: after.get(name, defaults[name])
        for name in {*before, *after}
        if values[name] == before.get(name, defaults[name])
    }


def config_to_json(config):
    """Returns the config as JSON text, sections as objects."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def config_from_json(text, source="config"):
    """Parses what `config_to_json` wrote; missing keys take their defaults.

    These are the preset's that the text names, and follow its latents.
    Settings that did not exist when it was written are as in
    `with_former_settings`.

    Args:
        text: JSON text.
        source: What to call it in an error, for instance the file's path.

    Returns:
        A `Config`.

    Raises:
        InputError: If the text is no JSON object of known sections and keys
            with valid values.
    """
    parsed = parse_json(text, source)
    sections = {field.name: field.type for field in dataclasses.fields(Config)}
    if not isinstance(parsed, dict) or not all(
        isinstance(value, dict) for value in parsed.values()
    ):
        raise InputError(
            f"{source} must hold one JSON object per section "
            f"({', '.join(sections)}), as in a run's config.json."
        )
    built = {}
    parsed = with_former_settings(parsed)
    defaults = _defaults_of(parsed)
    for name, values in parsed.items():
        if name not in sections:
            raise InputError(
                f"{source} has the unknown section `{shown(name)}`. Known: "
                f"{', '.join(sections)}."
            )
        known = [field.name for field in dataclasses.fields(sections[name])]
        unknown = {key: values[key] for key in values if key not in known}
        if unknown:
            raise InputError(
                f"{source}, section `{name}`: {_unknown_keys(unknown, known)}"
            )
        try:
            built[name] = sections[name](**{**defaults[name], **values})
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
    for name, values in defaults.items():
        built.setdefault(name, sections[name](**values))
    return Config(**built)


def _defaults_of(parsed):
    """Returns what the preset and the latents of a config file set.

    Args:
        parsed: Dict of sections as in JSON, not checked.

    Returns:
        Dict from section to dict from field to value.
    """
    preset = parsed.get("run", {}).get("preset")
    # Another type is refused later, by its field.
    preset = preset if isinstance(preset, str) else None
    own = _preset_values(preset, parsed.get("networks", {}))
    found = {field.name: {} for field in dataclasses.fields(Config)}
    for section, _, field, _ in section_fields():
        if field.name in own:
            found[section][field.name] = own[field.name]
    return found


def with_former_settings(parsed):
    """Returns a config with what it was made by before that was a setting.

    Only of sections that were written whole, as programs do: whoever leaves
    more out wants the defaults. Settings that are no more are left out where
    they did nothing.

    Args:
        parsed: Dict of sections as in JSON; not changed.
    """
    sections = {field.name: field.type for field in dataclasses.fields(Config)}
    completed = dict(parsed)
    for name, before in _BEFORE.items():
        known = {field.name for field in dataclasses.fields(sections[name])}
        values = parsed.get(name)
        if not isinstance(values, dict):
            continue
        values = {k: v for k, v in values.items() if (name, k, v) not in _GONE}
        whole = known <= {*before, *values}
        completed[name] = {**before, **values} if whole else values
    return completed


def parse_json(text, source, advice="", finite=False):
    """Parses JSON, and refuses what Python alone would let pass.

    Args:
        text: JSON text.
        source: What to call it in an error, for instance the file's path.
        advice: Sentence for the end of an error.
        finite: Whether to refuse `NaN` and infinite numbers anywhere.

    Returns:
        The value.

    Raises:
        InputError: If the text is no JSON, is nested too deeply, or has an
            object with the same key twice, of which one would be ignored.
    """
    hooks = {}
    if finite:
        hooks = {"parse_constant": _finite, "parse_float": _finite}
    try:
        value = json.loads(text, object_pairs_hook=_unique, **hooks)
        _check_depth(value)
        return value
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{source} must hold JSON. Received: {error}. {advice}".rstrip()
        ) from error


def _check_depth(value):
    """Refuses nesting that what walks through the value would not survive."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError(f"more than {_DEEPEST} levels of nesting")


def _unique(pairs):
    """Returns the object of key and value pairs, no key twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        ((twice, _),) = collections.Counter(k for k, _ in pairs).most_common(1)
        raise ValueError(f"the key `{shown(twice)}` twice in one object")
    return values


def _finite(text):
    """Parses a number, or one of JSON's names of what is none."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)}, which is no finite number")
    return number


def describe_differences(differences):
    """Names what differs between earlier settings and those of now.

    Args:
        differences: Dict as of `differences` of the earlier ones.
    """
    return "; ".join(
        f"{name}={there} there, {here} here"
        for name, (there, here) in differences.items()
    )


def shown(value):
    """Returns a value as errors show it: in one line, cut where it is long."""
    if isinstance(value, str) and value.isprintable() and len(value) < 200:
        return value
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 60


def checked_text(name, value):
    """Returns text that can be a path; every text here is one, or short.

    Without this check, the first use of it as a path raises one of several
    errors, hours later at the worst.

    Args:
        name: What to call it in an error.
        value: The text.

    Returns:
        The same text.

    Raises:
        InputError: If no file can have such a name.
    """
    try:
        encoded = os.fsencode(value)
    except UnicodeEncodeError as error:
        raise InputError(
            f"`{name}` must be Unicode text. Received: {name}={value!a}."
        ) from error
    if not encoded or b"\0" in encoded:
        raise InputError(
            f"`{name}` must be text, not empty and without NUL. Received: "
            f"{name}={shown(value)!r}."
        )
    longest = max(map(len, encoded.split(b"/")))
    if len(encoded) > _MAX_PATH_BYTES or longest > _MAX_NAME_BYTES:
        raise InputError(
            f"`{name}` must have at most {_MAX_NAME_BYTES} bytes between two "
            f"slashes, {_MAX_PATH_BYTES} in all. Received: {len(encoded)} "
            f"bytes, {name}={shown(value)}."
        )
    return value


def checked_integer(name, value, minimum, maximum):
    """Returns the value as an `int` in its range.

    Args:
        name: What to call it in an error.
        value: Integer of any type, but no boolean.
        minimum: Smallest allowed value.
        maximum: Largest allowed value.

    Returns:
        An `int`.

    Raises:
        InputError: If it is no integer, or out of range.
    """
    try:
        # NumPy's boolean has the same name, or had `bool_`.
        if type(value).__name__ in ("bool", "bool_"):
            raise TypeError
        number = operator.index(value)
    except TypeError as error:
        raise InputError(
            f"`{name}` must be an integer. Received: {name}={value!r}."
        ) from error
    if number < minimum:
        raise InputError(
            f"`{name}` must be an integer >= {minimum}. Received: "
            f"{name}={number}."
        )
    if number > maximum:
        raise InputError(
            f"`{name}` must be at most {maximum}. Received: {name}={number}."
        )
    return number


def field_parser(hint):
    """Returns a function from command-line text to the type of a field.

    Args:
        hint: Type hint of a scalar field, or of a tuple of `int`.

    Returns:
        Callable that raises `ValueError` on text that does not parse.
    """
    inner = _without_none(hint)
    if inner == tuple[int, ...]:
        return _parse_size
    if typing.get_origin(inner) is tuple:
        return typing.get_args(inner)[0]
    return inner


def _parse_size(text):
    """Parses `32` or `40x24` as a tuple of integers."""
    return tuple(int(part) for part in text.lower().split("x"))


# What argparse calls text that does not parse.
_parse_size.__name__ = "number or HEIGHTxWIDTH"


def _without_none(hint):
    """Returns `T` for the hint `T | None`, else the hint."""
    if isinstance(hint, types.UnionType):
        rest = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return rest[0]
    return hint


def _unknown_keys(values, known=None):
    """Says which keys are unknown, with near names where there are some."""
    import difflib

    if known is None:
        known = [field.name for _, _, field, _ in section_fields()]
    parts = []
    for key in values:
        near = difflib.get_close_matches(str(key), known, 3)
        hint = f" (did you mean {', '.join(near)}?)" if near else ""
        parts.append(f"`{shown(key)}`{hint}")
    return f"unknown key {', '.join(parts)}. Remove it or correct its name."


def _checked(field, hint, value):
    """Returns the value in its declared type, or raises `InputError`."""
    inner = _without_none(hint)
    if value is None and inner is not hint:
        return None
    if typing.get_origin(inner) is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            value = (value,)
        value = tuple(value)
        if not value:
            raise InputError(
                f"`{field.name}` must name at least one value. Received: none."
            )
        if len(value) > _MOST_VALUES:
            raise InputError(
                f"`{field.name}` must name at most {_MOST_VALUES} values. "
                f"Received: {len(value)}."
            )
        item = typing.get_args(inner)[0]
        value = tuple(_checked_scalar(field, item, entry) for entry in value)
        # Sizes only: one number means a square.
        if item is int and len(value) == 1:
            value = value * 2
        if item is int and len(value) != 2:
            raise InputError(
                f"`{field.name}` must be one number or HEIGHTxWIDTH. "
                f"Received: {field.name}={shown('x'.join(map(str, value)))}."
            )
        return value
    return _checked_scalar(field, inner, value)


def _checked_scalar(field, kind, value):
    """Checks type, choices and range of one scalar."""
    name = field.name
    if kind is float and type(value) is int and abs(value) < _LARGEST_FLOAT:
        value = float(value)
    is_number = kind is float and type(value) in (int, float)
    if type(value) is not kind and not is_number:
        raise InputError(
            f"`{name}` must be of type {kind.__name__}. Received: "
            f"{name}={_SHORT.repr(value)} of type {type(value).__name__}."
        )
    # Also false for NaN.
    if is_number and not abs(value) < _LARGEST_FLOAT:
        raise InputError(
            f"`{name}` must be a finite number below {_LARGEST_FLOAT:g}. "
            f"Received: {name}={shown(value)}."
        )
    if kind is str:
        checked_text(name, value)
    limits = field.metadata
    if limits["choices"] is not None and value not in limits["choices"]:
        raise InputError(
            f"`{name}` must be one of {', '.join(limits['choices'])}. "
            f"Received: {name}={shown(value)}."
        )
    bounds = (
        ("minimum", ">=", lambda bound: value >= bound),
        ("above", ">", lambda bound: value > bound),
        ("maximum", "<=", lambda bound: value <= bound),
        ("below", "<", lambda bound: value < bound),
    )
    rules = [
        (f"{sign} {limits[key]}", test(limits[key]))
        for key, sign, test in bounds
        if limits[key] is not None
    ]
    if not all(passed for _, passed in rules):
        noun = "an integer" if kind is int else "a number"
        raise InputError(
            f"`{name}` must be {noun} {' and '.join(r for r, _ in rules)}. "
            f"Received: {name}={shown(value)}."
        )
    return value
