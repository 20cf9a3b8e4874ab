from gdd_keras.reporting.weights import weight_columns


def weighted(material, config, record, weights, changes=(), **common):
    """One generator per weight, its accuracy a tenth of its place."""
    names = [f"g{index}" for index in range(len(weights))]
    found = material(
        [
            record(name, (index + 1) / 10, **common)
            for index, name in enumerate(names)
        ],
        generators=names,
    )
    for index, (name, weight) in enumerate(zip(names, weights, strict=True)):
        value = config(matching={"omega_l": weight})
        for section, settings in dict(changes).get(index, {}).items():
            value[section].update(settings)
        found.results.methods[name]["config"] = value
    return found


def points(column):
    return [(weight, cell.mean) for weight, cell in column.points]


def test_three_weights(material, config, record):
    found = weighted(material, config, record, [0.1, 0.0, 0.01])
    (column,) = weight_columns(found)
    assert points(column) == [(0.0, 0.2), (0.01, 0.3), (0.1, 0.1)]
    assert (column.ipc, column.setting.network) == (10, "convnet3")


def test_steps_seed_and_paths_may_differ(material, config, record):
    changes = {
        0: {"matching": {"distill_steps": 50}, "run": {"seed": 9}},
        1: {"data": {"data_dir": "/elsewhere"}, "evaluation": {"ipc": 50}},
        2: {"generation": {"soft_labels": True}},
    }
    found = weighted(material, config, record, [0.1, 0.0, 0.01], changes)
    assert len(weight_columns(found)) == 1


def test_nothing_else_may_differ(material, config, record):
    for section, value in (
        ("matching", {"omega_g": 0.5}),
        ("networks", {"latent_dim": 7}),
        ("cgan", {"cgan_steps": 7}),
        ("generation", {"label_mixing": 0.5}),
    ):
        changes = {1: {section: value}}
        found = weighted(material, config, record, [0.1, 0.0, 0.01], changes)
        assert weight_columns(found) == []


def test_a_setting_of_later_is_as_it_was_before(material, config, record):
    changes = {i: {"matching": {"distill_encoder": False}} for i in range(3)}
    found = weighted(material, config, record, [0.1, 0.0, 0.01], changes)
    del found.results.methods["g1"]["config"]["matching"]["distill_encoder"]
    assert len(weight_columns(found)) == 1


def test_two_weights_are_no_curve(material, config, record):
    found = weighted(material, config, record, [0.1, 0.0, 0.1])
    assert weight_columns(found) == []
    found = weighted(material, config, record, [0.1, 0.0, 0.1, 0.01])
    (column,) = weight_columns(found)
    assert len(column.points) == 4


def test_undistilled_generators_are_left_out(material, config, record):
    found = weighted(material, config, record, [0.1, 0.0, 0.01])
    found.results.methods["g1"]["training"]["steps"]["distill"] = 0
    assert weight_columns(found) == []
    changes = {1: {"matching": {"distill_steps": 0}}}
    found = weighted(material, config, record, [0.1, 0.0, 0.01], changes)
    found.results.methods["g1"]["training"] = None
    assert weight_columns(found) == []


def test_columns_are_never_mixed(material, config, record):
    found = weighted(material, config, record, [0.1, 0.0, 0.01])
    other = weighted(material, config, record, [0.1, 0.0, 0.01], ipc=1)
    found.results.records[0] = other.results.records[0]
    assert weight_columns(found) == []


def test_configs_of_other_tools(material, record):
    found = material([record("a", 0.5), record("random", 0.5)])
    found.results.methods["a"]["config"] = {"matching": {}}
    assert weight_columns(found) == []
    found.results.methods["a"]["config"] = {}
    assert weight_columns(found) == []
