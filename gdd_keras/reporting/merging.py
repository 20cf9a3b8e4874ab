"""Several results of one data set made one."""

import dataclasses

from gdd_keras.config import InputError
from gdd_keras.metadata import AUDIT_KEY
from gdd_keras.metadata import QUALITY_KEY
from gdd_keras.reporting.properties import REFERENCE_WEIGHTS
from gdd_keras.reporting.results import Results

__all__ = ["merge_results"]


def merge_results(parts):
    """Merges results of one data set; of measurements made twice, the last.

    Args:
        parts: `Results`, at least one.

    Returns:
        `Results` with the commands and environments of all, each once.

    Raises:
        InputError: If two generators share a name.
    """
    merged = Results(dataset=parts[0].dataset)
    records, repeated = {}, 0
    for index, part in enumerate(parts):
        commands = _union(merged.commands, part.commands)
        environments = _union(merged.environments, part.environments)
        for name, entry in part.methods.items():
            _check_same(name, merged.methods.get(name), entry)
            merged.methods[name] = {**merged.methods.get(name, {}), **entry}
        for record in part.records:
            record = dataclasses.replace(
                record,
                command=_moved(record.command, commands),
                environment=_moved(record.environment, environments),
            )
            earlier = records.get(record.identity, record)
            repeated += earlier.accuracy != record.accuracy
            records[record.identity] = record
        for name in ("quality", "audit"):
            entries = getattr(merged, name)
            for entry in getattr(part, name):
                moved = _moved(entry.get("command"), commands)
                # Without one it was some command of the same file.
                known = commands if moved is None else [moved]
                entries.append(
                    {
                        # Not known to be that of another file.
                        REFERENCE_WEIGHTS: f"file {index}",
                        **entry,
                        "commands": known,
                    }
                )
        merged.images.update(part.images)
        merged.notes += part.notes
    merged.records = _without_unsaid(records.values())
    merged.quality = _last_of_each(
        merged.quality, (*QUALITY_KEY, REFERENCE_WEIGHTS)
    )
    merged.audit = _last_of_each(merged.audit, (*AUDIT_KEY, REFERENCE_WEIGHTS))
    if repeated:
        merged.notes.append(
            f"{repeated} accuracies were measured twice with different "
            "outcomes; the later ones count."
        )
    return merged


def _check_same(name, earlier, entry):
    """Raises `InputError` if a name means two generators."""
    digests = [e.get("digest") for e in (earlier or {}, entry)]
    if None not in digests and digests[0] != digests[1]:
        raise InputError(
            f"The method `{name}` must be one generator in all results. "
            f"Received: two, with the digests {digests[0]} and {digests[1]}. "
            "Give one of them another name, or report them apart."
        )


def _union(values, new):
    """Appends what is new; returns where each new value now stands."""
    places = []
    for value in new:
        if value not in values:
            values.append(value)
        places.append(values.index(value))
    return places


def _moved(index, places):
    return None if index is None else places[index]


def _without_unsaid(records):
    """Drops what another record repeats that says what was held out."""

    def without_held_out(record):
        return dataclasses.replace(record, held_out=None).identity

    said = {without_held_out(r) for r in records if r.held_out is not None}
    return [r for r in records if r.identity not in said]


def _last_of_each(entries, names):
    """Drops entries that a later one repeats, keeping the order."""
    found = {}
    for entry in entries:
        found[tuple(entry.get(name) for name in names)] = entry
    return list(found.values())
