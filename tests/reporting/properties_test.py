from gdd_keras.reporting.properties import audit_tables
from gdd_keras.reporting.properties import quality_tables
from gdd_keras.reporting.properties import size_table
from gdd_keras.reporting.properties import training_table


def lines(block):
    return block.splitlines()[2:]


def test_size(material):
    found = material(generators=("mine", "gdd", "gan"))
    found.results.methods["mine"]["num_bytes"] = None
    text, table = size_table(found)
    assert "8 x 8 x 1 images" in text
    # 9,600 bytes, 64 pixels, 3 classes.
    assert lines(table) == [
        "| gan | 0.01 | 50 | 150 |",
        "| gdd | 0.01 | 50 | 150 |",
    ]


def test_size_of_nothing(material):
    assert size_table(material(generators=())) == []
    found = material()
    del found.results.dataset["image_shape"]
    assert size_table(found) == []


def test_training(material):
    found = material(generators=("gdd", "gan", "dim", "mine"))
    methods = found.results.methods
    methods["gdd"]["training"]["seconds"] = 1755.1
    methods["gan"]["training"] = {
        "steps": {"cgan": 4_428},
        "seconds": 60,
        "finished": False,
    }
    methods["dim"]["training"] = None
    (table,) = training_table(found)
    assert lines(table) == [
        "| gan | 4,428 | – | 1.0 (not finished) |",
        "| gdd | 40 | 20 | 29.3 |",
        "| mine | 40 | 20 | – |",
    ]
    assert training_table(material(generators=())) == []


def quality(method, **changes):
    return {
        "method": method,
        "split": "test",
        "num_images": 5_000,
        "neighbours": 5,
        "precision": 0.75,
        "recall": 0.5,
        "density": 1.25,
        "coverage": 0.0625,
        "frechet_distance": 12.3456,
        "command": 0,
        "environment": 0,
        **changes,
    }


def test_quality(material):
    found = material(
        quality=[
            quality("gdd", recall=None),
            quality("random"),
            quality("gdd", split="validation", precision=0.5),
        ]
    )
    blocks = quality_tables(found)
    assert "it is not FID" in blocks[0]
    assert blocks[1] == "### test split, 5,000 images"
    assert blocks[2] == (
        "5,000 generated and as many real images of the split, 5 neighbours. "
        "Command [1](#command-1)."
    )
    assert blocks[3].splitlines() == [
        "| images of | precision | recall | density | coverage | frechet "
        "distance |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| random | 0.750 | 0.500 | 1.250 | 0.062 | 12.35 |",
        "| gdd | 0.750 | – | 1.250 | 0.062 | 12.35 |",
    ]
    assert blocks[4] == "### validation split, 5,000 images"
    # What other classifiers say stands in other tables.
    found = material(
        quality=[
            quality("gdd"),
            quality("gdd", reference_epochs=5, seed=0),
            quality("gdd", reference_epochs=5, seed=1),
        ]
    )
    blocks = quality_tables(found)
    assert len(blocks) == 1 + 3 * 3
    assert "5 neighbours, classifier of 5 epochs. " in blocks[5]
    found = material(
        quality=[quality("gdd", reference_weights=w) for w in ("one", "other")]
    )
    assert quality_tables(found)[1::3] == [
        "### test split, 5,000 images, classifier 1",
        "### test split, 5,000 images, classifier 2",
    ]
    assert quality_tables(material()) == []


def test_audit(material):
    pixels = {
        "num_generated": 2_000,
        "share_nearer_train": 0.5031,
        "share_nearer_train_low": 0.4675,
        "share_nearer_train_high": 0.5371,
        "share_exact": 0.0,
    }
    found = material(
        audit=[
            {
                "method": "gdd",
                "num_generated": 2_000,
                "spaces": {"pixels": pixels, "features": {"attack_auc": 0.5}},
                "command": 0,
            },
            {"method": "gan", "spaces": {"pixels": {"share_exact": 0.25}}},
        ],
        generators=("gdd", "gan"),
    )
    blocks = audit_tables(found)
    assert "no privacy guarantee follows" in blocks[0]
    assert blocks[1] == "### Distances between pixels"
    assert blocks[2] == "Command [1](#command-1)."
    assert blocks[3].splitlines()[0] == "| pixels | gan | gdd |"
    assert lines(blocks[3]) == [
        "| share exact | 0.25 | 0 |",
        "| num generated | – | 2,000 |",
        "| share nearer train | – | 0.5031 (0.4675 to 0.5371) |",
    ]
    assert lines(blocks[6]) == ["| attack auc | 0.5 |"]
    features = {"features": {"attack_auc": 0.5}}
    audits = [
        {"method": "gdd", "reference_epochs": n, "seed": 0, "spaces": features}
        for n in (5, 10)
    ]
    blocks = audit_tables(material(audit=audits))
    assert blocks[1::3] == [
        "### Distances between features, classifier of 5 epochs",
        "### Distances between features, classifier of 10 epochs",
    ]
    for index, audit in enumerate(audits):
        audit.update(reference_epochs=5, reference_weights=f"w{index}")
    assert audit_tables(material(audit=audits))[1::3] == [
        "### Distances between features, classifier of 5 epochs, classifier 1",
        "### Distances between features, classifier of 5 epochs, classifier 2",
    ]
    assert audit_tables(material()) == []
