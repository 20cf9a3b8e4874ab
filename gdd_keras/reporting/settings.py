"""With which settings, machines and commands the figures were made."""

import json

from gdd_keras.config import section_fields
from gdd_keras.reporting.text import details
from gdd_keras.reporting.text import escape
from gdd_keras.reporting.text import fenced
from gdd_keras.reporting.text import table

__all__ = [
    "command_blocks",
    "differences",
    "machine_table",
    "settings_blocks",
]

_ABSENT = object()


def settings_blocks(material):
    """Returns what differs from the defaults, and each whole config.

    Args:
        material: `Material`.

    Returns:
        List of Markdown blocks.
    """
    configs = _configs(material)
    if not configs:
        return []
    lines = [
        [escape(name), _shown(default), *map(_shown, values)]
        for name, default, values in differences(list(configs.values()))
    ]
    names = [", ".join(map(escape, names)) for names in configs]
    blocks = ["No setting differs from its default."]
    if lines:
        header = ["setting", "default", *names]
        blocks = [table(header, lines, numeric=False)]
    for methods, config in configs.items():
        blocks.append(
            details(
                f"All settings of {', '.join(methods)}",
                fenced(
                    json.dumps(config, indent=2, ensure_ascii=False), "json"
                ),
            )
        )
    return blocks


def machine_table(material):
    """Returns machines and versions; the number is that of the captions."""
    environments = material.results.environments
    versions = dict.fromkeys(
        name
        for environment in environments
        for name in environment.get("versions") or {}
    )
    lines = [
        [
            str(index + 1),
            _shown(environment.get("machine", _ABSENT)),
            _shown(environment.get("device", _ABSENT)),
            _shown(environment.get("python", _ABSENT)),
            *(
                _shown((environment.get("versions") or {}).get(name, _ABSENT))
                for name in versions
            ),
        ]
        for index, environment in enumerate(environments)
    ]
    if not lines:
        return []
    header = ["", "machine", "device", "Python", *map(escape, versions)]
    return [table(header, lines, numeric=False)]


def command_blocks(material):
    """Returns every command, with the anchor that captions link to."""
    return [
        f'<a id="command-{index + 1}"></a>Command {index + 1}\n\n'
        + fenced(command, "sh")
        for index, command in enumerate(material.results.commands)
    ]


def differences(configs, changed=()):
    """Yields name, default and values where any is not the default.

    Args:
        configs: List of configs as in JSON.
        changed: Dict of defaults that are others here, by field.
    """
    changed = dict(changed)
    defaults = {
        (section, field.name): _as_json(changed.get(field.name, field.default))
        for section, _, field, _ in section_fields()
    }
    # Settings of another version stand at the end.
    keys = dict.fromkeys(defaults)
    for config in configs:
        for section, values in config.items():
            if isinstance(values, dict):
                keys.update(dict.fromkeys((section, name) for name in values))
    for section, name in keys:
        default = defaults.get((section, name), _ABSENT)
        values = [
            (config.get(section) or {}).get(name, _ABSENT) for config in configs
        ]
        if any(value not in (default, _ABSENT) for value in values):
            yield f"{section}.{name}", default, values


def _configs(material):
    """Returns tuple of methods to config, equal configs once."""
    found = {}
    for name, entry in material.results.methods.items():
        config = entry.get("config")
        if config is not None:
            key = json.dumps(config, sort_keys=True)
            found.setdefault(key, ([], config))[0].append(name)
    return {tuple(names): config for names, config in found.values()}


def _as_json(value):
    return list(value) if isinstance(value, tuple) else value


def _shown(value):
    """Returns Markdown of a JSON value, a dash for none."""
    if value is _ABSENT or value is None:
        return "–"
    if isinstance(value, list):
        return escape(" ".join(map(str, value)))
    if isinstance(value, str):
        return escape(value)
    return escape(json.dumps(value, ensure_ascii=False))
