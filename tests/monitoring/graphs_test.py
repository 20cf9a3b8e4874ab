import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from gdd_keras.monitoring import Profile
from gdd_keras.monitoring import write_graph
from gdd_keras.networks import build_discriminator
from gdd_keras.networks import build_generator


def test_graph_holds_both_networks(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))
    shape = (8, 8, 1)
    write_graph(
        writer,
        build_generator(shape, 3, "compact", 5, 4),
        build_discriminator(shape, 3, "compact", "auxiliary", 4),
    )
    writer.close()
    graph = EventAccumulator(str(tmp_path)).Reload().Graph()
    scopes = {node.name.split("/")[0] for node in graph.node}
    assert {"latents", "one_hot_labels", "generator", "discriminator"} <= scopes
    # The weights are variables, not values in the graph.
    assert graph.ByteSize() < 200_000


def test_profile_of_a_few_steps(tmp_path, make_trainer, fit):
    profile = Profile(tmp_path, first=2, count=3)
    fit(make_trainer(), [profile], steps=3, epochs=3)
    files = list((tmp_path / "plugins" / "profile").glob("*/*.xplane.pb"))
    assert len(files) == 1
    assert files[0].stat().st_size > 0


def test_profile_of_a_stage_that_ends_early(tmp_path, make_trainer, fit):
    fit(make_trainer(), [Profile(tmp_path / "a", first=2)], steps=3)
    assert len(list(tmp_path.glob("a/plugins/profile/*/*"))) == 1
    fit(make_trainer(), [Profile(tmp_path / "b", first=9)], steps=3)
    assert not (tmp_path / "b").exists()
