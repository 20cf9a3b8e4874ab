from gdd_keras.reporting.images import class_rows
from gdd_keras.reporting.images import read_grids


def test_grids_in_the_order_of_the_tables(material, png, tmp_path):
    names = ("gdd", "gan", "random", "dim")
    found = material(images={name: f"{name}.png" for name in names})
    for name in names[:3]:
        (tmp_path / "results" / f"{name}.png").write_bytes(png)
    grids, notes = read_grids(found)
    assert list(grids) == ["random", "gan", "gdd"]
    assert set(grids.values()) == {png}
    (note,) = notes
    assert note.startswith("The grid of dim, ") and "No such file" in note


def test_class_rows():
    assert class_rows({"class_names": ["a", "b*", "c"]}) == (
        r"One row per class, from the top: a, b\* and c."
    )
    assert class_rows({}) == "One row per class."
    many = class_rows({"class_names": [f"c{index}" for index in range(30)]})
    assert many.startswith("The first 20 of 30 classes: c0, ")
    assert many.endswith("c18 and c19.")
