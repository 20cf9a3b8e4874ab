"""A table of figures: every method, protocol, IPC, network and seed of it.

Each network's figure is written as soon as it is there, so that the same
table asked for again goes on where it stopped.
"""

import dataclasses
import hashlib
import json
import sys

import numpy as np
import tqdm

from gdd_keras.callbacks import png_bytes
from gdd_keras.config import BASELINES
from gdd_keras.config import InputError
from gdd_keras.evaluation.baselines import baseline_source
from gdd_keras.evaluation.baselines import generator_source
from gdd_keras.evaluation.protocols import SourceScorer
from gdd_keras.evaluation.protocols import pick_split
from gdd_keras.evaluation.protocols import score_fields
from gdd_keras.evaluation.reference import REFERENCE_NETWORK
from gdd_keras.evaluation.reference import load_reference
from gdd_keras.evaluation.reference import reference_config
from gdd_keras.evaluation.reference import reference_identity
from gdd_keras.evaluation.sources import first_real_images
from gdd_keras.evaluation.sources import generated_set
from gdd_keras.selection import check_size

__all__ = ["AUDIT_ROWS", "Benchmark", "Row", "check_quality", "plan_rows"]

_NEIGHBOURS = 5
_QUALITY_IMAGES = 5000
_AUDIT_IMAGES = 2000
# Beyond it the features of the training images would fill the memory.
AUDIT_ROWS = 60_000
_UNSEEN = "unseen"
_GRID_COLUMNS = 10
_GRID_ROWS = 20


@dataclasses.dataclass(frozen=True)
class Row:
    """One method under one protocol, scored by `num_seeds` networks.

    Attributes:
        method: Name of a baseline or of a generator.
        selection: `random`, `typical`, `condensed`, `herding` or `k_center`.
        protocol: `stream`, `fixed` or `full_size`.
        ipc: Images per class; `None` under `full_size`.
        network: Name of the network.
    """

    method: str
    selection: str
    protocol: str
    ipc: int | None
    network: str


def plan_rows(
    generators,
    baselines=(),
    selections=("random",),
    protocols=("stream",),
    ipcs=(10,),
    networks=("convnet3",),
    full_size=False,
):
    """Returns the rows of a table, cheap ones first.

    Args:
        generators: Names of generators.
        baselines: Names of `BASELINES`.
        selections: How generated sets are chosen under `fixed`.
        protocols: `stream`, `fixed` or both.
        ipcs: Images per class.
        networks: Names of networks.
        full_size: Whether generators are also scored on sets as large as the
            training split (the classification accuracy score).

    Returns:
        List of `Row`.

    Raises:
        InputError: If a baseline belongs to a protocol that is not asked for,
            the selection to none, or there is nothing to select from.
    """
    for name in baselines:
        if BASELINES[name] not in (*protocols, "full_size"):
            raise InputError(
                f"`--baselines {name}` belongs to the protocol "
                f"`{BASELINES[name]}`. Received: --protocol "
                f"{' '.join(protocols)}. Add `{BASELINES[name]}`, or leave "
                f"`{name}` out."
            )
    if set(selections) != {"random"} and "fixed" not in protocols:
        raise InputError(
            "`--selection` chooses the images of the protocol `fixed`. "
            f"Received: --protocol {' '.join(protocols)}. Add `fixed`."
        )
    if not generators and (full_size or set(selections) != {"random"}):
        raise InputError(
            "`--full-size` and `--selection` are for generated images. "
            "Received: no `--model`. Pass one, or leave them out."
        )
    for selection in selections:
        check_size(selection, max(ipcs))
    rows = []
    for ipc in ipcs:
        for network in networks:
            for protocol in protocols:
                rows += [
                    Row(name, "random", protocol, ipc, network)
                    for name in baselines
                    if BASELINES[name] == protocol
                ]
                chosen = selections if protocol == "fixed" else ["random"]
                rows += [
                    Row(name, selection, protocol, ipc, network)
                    for name in generators
                    for selection in chosen
                ]
    whole = [name for name in baselines if BASELINES[name] == "full_size"]
    if full_size:
        whole += generators
    rows += [
        Row(name, "random", "full_size", None, REFERENCE_NETWORK)
        for name in whole
    ]
    return rows


def check_quality(dataset, split):
    """Refuses a comparison of fewer images than an image has neighbours.

    Args:
        dataset: `Dataset`.
        split: Split that generated images are compared with.

    Raises:
        InputError: If it or the training split has too few images.
    """
    counts = {
        name: len(dataset.splits[name])
        for name in ("train", split)
        # That there is none, `Benchmark` says.
        if name in dataset.splits
    }
    if min(counts.values()) <= _NEIGHBOURS:
        raise InputError(
            f"`--quality` needs more than {_NEIGHBOURS} images of each split "
            "that it looks at. Received: "
            f"{', '.join(f'{n} of {name}' for name, n in counts.items())}. "
            "Leave it out."
        )


class Benchmark:
    """Scores rows into a `Results`, skipping what is there.

    Args:
        dataset: `Dataset`.
        config: `EvaluationConfig`; rows replace its protocol, IPC, network.
        results: `Results`.
        generators: Dict from name to `DistilledGenerator`.
        seed: Seed of the first network; the next ones count up.
        split: Split to score on.
        verbose: 1 shows progress, 0 nothing.
    """

    def __init__(
        self,
        dataset,
        config,
        results,
        generators,
        seed=0,
        split="test",
        verbose=1,
    ):
        pick_split(dataset, split)
        self._dataset = dataset
        self._config = config
        self._results = results
        self._generators = generators
        self._seed = seed
        self._split = split
        self._verbose = verbose
        self._reference = None
        self._bar = None

    def run(self, rows):
        """Trains and scores all networks that are not in the results.

        Args:
            rows: List of `Row`.

        Returns:
            List of all records of these rows, old and new.
        """
        pending = [
            (
                row,
                [
                    seed
                    for seed in self._seeds(row)
                    if self._find(row, seed) is None
                ],
            )
            for row in rows
        ]
        pending = [(row, seeds) for row, seeds in pending if seeds]
        count = sum(len(self._seeds(row)) for row in rows)
        left = sum(len(seeds) for _, seeds in pending)
        if self._verbose and left < count:
            print(f"{count - left} of {count} figures are there already")
        total = sum(self._cost(row) * len(seeds) for row, seeds in pending)
        with self._progress_bar(total, " images") as self._bar:
            for row, seeds in pending:
                self._score(row, seeds)
        return [
            self._find(row, seed) for row in rows for seed in self._seeds(row)
        ]

    def compare(self, methods):
        """Computes quality scores on features of the reference network.

        Args:
            methods: Names of generators, or `random` for real images.
        """
        # It brings scikit-learn, a second that most commands do not need.
        from gdd_keras.evaluation.quality import quality_scores

        split = pick_split(self._dataset, self._split)
        count = min(_QUALITY_IMAGES, len(split), len(self._dataset.train))
        real = None
        for method in methods:
            entry = {
                "method": method,
                "split": self._split,
                "num_images": count,
                "neighbours": _NEIGHBOURS,
                **self._reference_key(),
            }
            if self._results.has_quality(entry):
                continue
            self._say(f"{method}: quality of {count:,} images")
            features = self.reference().features
            if real is None:
                real = features(_thinned(split.images, count, self._seed))
            scores = quality_scores(
                real,
                features(self._images(method, count)),
                _NEIGHBOURS,
            )
            self._results.add_quality(
                {
                    **entry,
                    "reference_weights": self.reference().digest,
                    **scores,
                }
            )

    def audit(self, methods):
        """Compares generated images with training and held-out ones.

        Two controls go with them: `random`, which are training images, and
        `unseen`, images of the split that is scored on.

        Args:
            methods: Names of generators.
        """
        # As in `compare`.
        from gdd_keras.evaluation.audit import audit_memorisation

        train = _thinned(self._dataset.train.images)
        held_out = _thinned(self._dataset.validation.images)
        # Real images enter each space once, not once for each method.
        spaces = {}
        controls = ["random"]
        if self._split != "validation":
            controls.append(_UNSEEN)
        for method in [*methods, *controls]:
            entry = {
                "method": method,
                "num_generated": _AUDIT_IMAGES,
                **self._reference_key(),
            }
            if self._results.has_audit(entry):
                continue
            self._say(f"{method}: memorisation audit of {_AUDIT_IMAGES:,}")
            images = self._images(method, _AUDIT_IMAGES)
            if not spaces:
                for name, space in (
                    ("pixels", _flat_pixels),
                    ("features", self.reference().features),
                ):
                    spaces[name] = space, space(train), space(held_out)
            self._results.add_audit(
                {
                    **entry,
                    "reference_weights": self.reference().digest,
                    "spaces": {
                        name: audit_memorisation(
                            space(images),
                            real_train,
                            real_held_out,
                            self._seed,
                        )
                        for name, (
                            space,
                            real_train,
                            real_held_out,
                        ) in spaces.items()
                    },
                }
            )

    def _reference_key(self):
        """Returns what tells a comparison from those by another network."""
        identity = reference_identity(self._dataset, self._config, self._seed)
        text = json.dumps(identity, sort_keys=True)
        return {
            "reference_epochs": self._config.reference_epochs,
            "seed": self._seed,
            "reference": hashlib.sha256(text.encode()).hexdigest()[:16],
        }

    def reference(self):
        """Returns the `Reference`, trained at the first call."""
        if self._reference is None:
            known = list(self._results.directory.glob("reference-*"))
            if not known:
                self._say(
                    f"training {REFERENCE_NETWORK} on the training split, "
                    f"{self._config.reference_epochs} epochs"
                )
            self._reference = load_reference(
                self._dataset,
                self._config,
                self._results.directory,
                self._seed,
                self._split,
                self._showing("reference", self._config.reference_epochs),
            )
        return self._reference

    def _score(self, row, seeds):
        """Scores the missing networks of a row."""
        if row.method == "full":
            self._add(row, self.reference().score)
            return
        config = self._row_config(row)
        source = self._source(row, config)
        self._draw_grid(row, source)
        scorer = SourceScorer(
            source,
            self._dataset,
            config,
            self._split,
            row.method,
            row.selection,
            row.protocol,
            self._seed,
        )
        for seed in seeds:
            # Another process may have been here meanwhile.
            if self._find(row, seed) is None:
                self._bar.set_description(f"{_title(row)}, seed {seed}")
                images = self._cost(row) / config.eval_epochs
                self._add(row, scorer.score(seed, self._counting(images)))

    def _draw_grid(self, row, source):
        """Stores a grid of the row's images, one row per class."""
        if row.method in self._generators:
            make = generated_set(self._generators[row.method], _GRID_COLUMNS)
            images, labels = make(self._seed)
        elif row.protocol == "fixed":
            images, labels = source.stored(self._seed)
        else:
            return
        self._results.add_image(row.method, png_bytes(_grid(images, labels)))

    def _source(self, row, config):
        if row.method in self._generators:
            return generator_source(
                self._generators[row.method],
                self._dataset,
                config,
                row.protocol,
                row.selection,
                self.reference,
                self._seed,
                self._showing(f"{row.method} images"),
            )
        return baseline_source(
            row.method,
            self._dataset,
            config,
            self.reference,
            self._results.directory,
            self._seed,
            self._showing(f"{row.method} images", config.dm_steps),
        )

    def _add(self, row, score):
        self._results.add_record(dataclasses.asdict(score))
        self._say(
            f"{_title(row)}, seed {score.seed}: {score.accuracy:.2%} on "
            f"{score.split} ({score.seconds:.0f} s)"
        )

    def _find(self, row, seed):
        fields = score_fields(
            self._dataset,
            self._row_config(row),
            self._split,
            row.method,
            row.selection,
            row.protocol,
            self._seed,
        )
        return self._results.find({**fields, "seed": seed})

    def _row_config(self, row):
        if row.protocol == "full_size":
            config = reference_config(self._config)
            if row.method not in self._generators:
                return config
            return dataclasses.replace(
                config, eval_labels=self._config.eval_labels
            )
        return dataclasses.replace(
            self._config,
            protocol=row.protocol,
            ipc=row.ipc,
            network=row.network,
        )

    def _seeds(self, row):
        # Full-size sets cost as much as ten others: one network.
        count = 1 if row.protocol == "full_size" else self._config.num_seeds
        return [(self._seed + index) % 2**31 for index in range(count)]

    def _cost(self, row):
        """Returns the number of images that one network is shown."""
        if row.protocol == "full_size":
            return len(self._dataset.train) * self._config.reference_epochs
        return row.ipc * self._dataset.num_classes * self._config.eval_epochs

    def _progress_bar(self, total, unit, **settings):
        # In a log file a line for each network is enough.
        return tqdm.tqdm(
            total=total,
            unit=unit,
            unit_scale=True,
            disable=not self._verbose or not sys.stderr.isatty(),
            dynamic_ncols=True,
            **settings,
        )

    def _counting(self, images_per_epoch):
        """Returns `progress` that moves the bar over all networks."""
        done = 0

        def progress(epochs, loss):
            nonlocal done
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self._bar.update(round((epochs - done) * images_per_epoch))
            done = epochs

        return progress

    def _showing(self, title, total=None):
        """Returns `progress` with a bar of its own while it is called.

        Args:
            title: What is made.
            total: Steps in all, of a function of (steps done, loss); `None`
                for a function of (steps done, steps in all).
        """
        bar = None

        def progress(done, number):
            nonlocal bar
            steps = number if total is None else total
            if bar is None:
                bar = self._progress_bar(steps, "", desc=title, leave=False)
            if total is not None:
                bar.set_postfix(loss=f"{number:.3f}", refresh=False)
            bar.update(done - bar.n)
            if done == steps:
                bar.close()

        return progress

    def _images(self, method, count):
        """Returns the first images of a method."""
        num_classes = self._dataset.num_classes
        ipc = -(-count // num_classes)
        if method == _UNSEEN:
            images = pick_split(self._dataset, self._split).images
            return _thinned(images, count, self._seed)
        if method == "random":
            make = first_real_images(self._dataset.train, ipc, num_classes)
        else:
            make = generated_set(self._generators[method], ipc)
        return make(self._seed)[0][:count]

    def _say(self, text):
        if self._verbose:
            tqdm.tqdm.write(text)
            sys.stdout.flush()


def _title(row):
    """Returns a row as text."""
    parts = [row.method]
    if row.selection != "random":
        parts.append(f"{row.selection} selection")
    parts.append(row.protocol)
    if row.ipc is not None:
        parts.append(f"IPC {row.ipc}")
    return ", ".join([*parts, row.network])


def _thinned(images, count=AUDIT_ROWS, seed=0):
    """Returns at most `count` images, drawn at random, in order."""
    rows = np.random.default_rng(seed).permutation(len(images))[:count]
    return images[np.sort(rows)]


def _flat_pixels(images):
    """Returns float32 rows in [0, 1]."""
    images = np.asarray(images)
    return images.reshape(len(images), -1).astype(np.float32) / 255.0


def _grid(images, labels):
    """Lays images out, one row per class; black where there are too few."""
    rows = min(int(labels.max()) + 1, _GRID_ROWS)
    columns = min(_GRID_COLUMNS, int(np.bincount(labels).max()))
    height, width, channels = images.shape[1:]
    grid = np.zeros((rows, height, columns, width, channels), np.uint8)
    for label in range(rows):
        for column, image in enumerate(images[labels == label][:columns]):
            grid[label, :, column] = image
    return grid.reshape(rows * height, columns * width, channels)
