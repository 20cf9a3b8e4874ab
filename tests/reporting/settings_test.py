import html
import json

from gdd_keras.reporting.settings import command_blocks
from gdd_keras.reporting.settings import machine_table
from gdd_keras.reporting.settings import settings_blocks


def with_configs(material, **configs):
    found = material(generators=configs)
    for name, value in configs.items():
        found.results.methods[name]["config"] = value
    return found


def test_only_differences_are_shown(material, config):
    found = with_configs(
        material,
        gdd=config(),
        dim=config(matching={"omega_l": 0.0, "pool": ["resnet10", "mlp"]}),
        same=config(),
        new=config(run={"seed": 3, "not_of_this_version": "a|b"}),
        unknown=None,
    )
    blocks = settings_blocks(found)
    assert blocks[0].splitlines() == [
        "| setting | default | gdd, same | dim | new |",
        "| --- | --- | --- | --- | --- |",
        "| matching.omega_l | 50.0 | 50.0 | 0.0 | 50.0 |",
        "| matching.pool | convnet3 | convnet3 | resnet10 mlp | convnet3 |",
        "| run.seed | 0 | 0 | 0 | 3 |",
        "| run.not_of_this_version | – | – | – | a&#124;b |",
    ]


def test_whole_configs(material, config):
    value = config(data={"dataset": "</details>"})
    blocks = settings_blocks(with_configs(material, gdd=value))
    assert "<summary>All settings of gdd</summary>" in blocks[1]
    inner = blocks[1].split("```json\n")[1].split("\n```")[0]
    assert json.loads(inner) == value
    assert "&lt;/details&gt;" in blocks[0]
    assert html.unescape(blocks[0]).count("</details>") == 1


def test_no_difference_and_no_config(material, config):
    blocks = settings_blocks(with_configs(material, gdd=config()))
    assert blocks[0] == "No setting differs from its default."
    assert settings_blocks(material()) == []


def test_machines(material):
    found = material(
        environments=[
            {
                "machine": "a | b",
                "device": "cpu",
                "python": "3.11.2",
                "versions": {"keras": "3.15.1"},
            },
            {"versions": {"keras": "3.16.0", "numpy": "2.4.6"}},
        ]
    )
    (table,) = machine_table(found)
    assert table.splitlines()[2:] == [
        "| 1 | a &#124; b | cpu | 3.11.2 | 3.15.1 | – |",
        "| 2 | – | – | – | 3.16.0 | 2.4.6 |",
    ]
    assert machine_table(material(environments=[])) == []


def test_commands(material):
    found = material(commands=["first --a", "second\n```"])
    assert command_blocks(found) == [
        '<a id="command-1"></a>Command 1\n\n```sh\nfirst --a\n```',
        '<a id="command-2"></a>Command 2\n\n````sh\nsecond\n```\n````',
    ]
