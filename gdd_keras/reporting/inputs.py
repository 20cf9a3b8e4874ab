"""What a report is made of: results and runs of one data set, together."""

import dataclasses
import functools
import pathlib

from gdd_keras.config import InputError
from gdd_keras.metadata import model_digest
from gdd_keras.reporting.merging import merge_results
from gdd_keras.reporting.records import group
from gdd_keras.reporting.results import Results
from gdd_keras.reporting.results import read_results
from gdd_keras.reporting.results import results_file
from gdd_keras.reporting.runs import is_run
from gdd_keras.reporting.runs import read_run
from gdd_keras.tuning.directory import Search
from gdd_keras.tuning.directory import is_search
from gdd_keras.tuning.directory import read_search

__all__ = ["Material", "read_inputs"]


@dataclasses.dataclass(frozen=True)
class Material:
    """Everything that a report shows.

    Attributes:
        results: `Results`; the generators of runs are among its methods.
        runs: List of `Run`, for their curves.
        searches: List of `Search`.
    """

    results: Results
    runs: list
    searches: list[Search] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def groups(self):
        """The records as from `gdd_keras.reporting.records.group`."""
        return group(self.results.records, self.results.methods)


def read_inputs(paths):
    """Reads runs and results, and checks that they belong together.

    Args:
        paths: Folders of runs, of searches, or of results, or results files.

    Returns:
        `Material`.

    Raises:
        InputError: If a path is missing or something else, a file is damaged,
            or the data sets differ.
    """
    parts, runs, searches, seen = [], [], [], set()
    for path in map(pathlib.Path, paths):
        if not path.exists():
            raise InputError(
                "Every input must be the folder of a run or of results. "
                f"Received: {path}, which does not exist. Pass for instance "
                "runs/digits or results/digits."
            )
        file = results_file(path)
        run, search = is_run(path), is_search(path)
        if file is None and not run and not search:
            raise InputError(
                "Every input must be the folder of a run (config.json), of a "
                "search (search.json) or of results (results.json). "
                f"Received: {path}, which holds none of them. Pass for "
                "instance runs/digits or results/digits."
            )
        if search and path.resolve() not in seen:
            seen.add(path.resolve())
            searches.append(read_search(path))
        if file is not None and file.resolve() not in seen:
            seen.add(file.resolve())
            parts.append((file, read_results(file)))
        if run and path.resolve() not in seen:
            seen.add(path.resolve())
            runs.append(read_run(path))
    shared = [read_run(s.stage_1) for s in searches if is_run(s.stage_1)]
    _check_same_data(parts, runs + shared)
    if parts:
        results = merge_results([part for _, part in parts])
    else:
        results = Results(dataset=_dataset(runs + shared, searches))
    for run in runs:
        _add_run(results, run)
    return Material(results, runs, searches)


def _check_same_data(parts, runs):
    """Raises `InputError` if fingerprints differ."""
    found = [(file, part.dataset["fingerprint"]) for file, part in parts]
    found += [
        (run.path, run.state["fingerprint"])
        for run in runs
        if run.state.get("fingerprint") is not None
    ]
    for path, fingerprint in found[1:]:
        if fingerprint != found[0][1]:
            raise InputError(
                "All inputs must be of the same data. Received: "
                f"{found[0][0]}, fingerprint {found[0][1]}, and {path}, "
                f"fingerprint {fingerprint}. Make one report for each."
            )


def _dataset(runs, searches):
    """Returns what runs and searches alone know of their data."""
    for run in runs:
        if run.metadata is not None and "dataset" in run.metadata:
            return run.metadata["dataset"]
    if not runs:
        # One that has not begun.
        return {"name": searches[0].config.data.dataset, "fingerprint": None}
    data = runs[0].config.get("data", {})
    return {
        "name": str(data.get("dataset", "an unnamed data set")),
        "fingerprint": runs[0].state.get("fingerprint"),
    }


def _add_run(results, run):
    """Adds a run's generator, under the name it has in the results."""
    run.name = _name(results, run)
    training = {
        "steps": {
            name: stage.get("steps")
            for name, stage in run.state.get("stages", {}).items()
        },
        "seconds": run.state.get("seconds"),
        "finished": bool(run.state.get("done")),
    }
    metadata = run.metadata or {}
    results.methods[run.name] = {
        "kind": "generator",
        "config": run.config,
        "training": training,
        "num_bytes": metadata.get("num_bytes"),
        "model": run.state.get("export"),
        **results.methods.get(run.name, {}),
    }
    if run.samples is not None:
        results.images.setdefault(run.name, run.samples)
    known = {record.identity for record in results.records}
    for record in run.records:
        row = dataclasses.replace(record.row, method=run.name)
        record = dataclasses.replace(record, row=row)
        if record.identity not in known:
            known.add(record.identity)
            results.records.append(record)
    if "versions" in metadata:
        versions = metadata["versions"]
        if all(e.get("versions") != versions for e in results.environments):
            results.environments.append({"versions": versions})
    results.notes += run.notes


def _name(results, run):
    """Returns the results' name for a run's generator, or a new one."""
    if run.export is not None and (run.export / "saved_model.pb").is_file():
        digest = model_digest(run.export)
        for name, entry in results.methods.items():
            if entry.get("digest") == digest:
                return name
    name, index = run.name, 1
    while name in results.methods:
        index += 1
        name = f"{run.name} (run {index})"
    return name
