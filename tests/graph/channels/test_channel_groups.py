from pathlib import Path

import pytest

from onnxopt.document.blocks import Table
from onnxopt.graph.channels.find import groups_of
from onnxopt.model_file import load
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import target_of
from onnxopt.tasks.groups import groups_document
from tests import builders
from tests.graph.channels.channel_graphs import cut

ROOT = Path(__file__).parents[3]
MODELS = sorted((ROOT / "models").glob("*.onnx"))
FILES = [*MODELS, *sorted((ROOT.parent / "shared" / "fixtures").glob("*.onnx"))]
COUNTS = {
    "digits_dscnn": (6, 1),
    "digits_gru": (2, 1),
    "digits_jax": (8, 10),
    "digits_keras": (5, 1),
    "digits_lstm": (1, 1),
    "digits_mlp": (2, 1),
    "digits_resnet": (4, 1),
    "digits_vit": (8, 2),
}
"""Groups that can be cut, and frozen ones, of the bundled models."""


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_groups_of_the_bundled_models(path):
    groups = groups_of(load(path))
    frozen = [g for g in groups if g.frozen is not None]
    assert (len(groups) - len(frozen), len(frozen)) == COUNTS[path.stem]
    assert all(g.frozen.strip() for g in frozen)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_file_is_pruned_and_proved_or_frozen_with_reasons(path):
    spec = PruneChannels(ratio=0.4, round_to=1, importance="random")
    (step,) = Pipeline((spec,)).run(load(path), Context(target_of("x86-vnni"))).steps
    assert step.edits or step.skipped
    assert not [skip for skip in step.skipped if "not removed" in skip.reason or "proved" in skip.reason]


def test_groups_say_what_belongs_together():
    first, second, classifier = groups_of(builders.BUILDERS["residual_cnn"]())
    assert (first.name, first.size, first.frozen, first.sources) == ("Conv_0", 8, None, ("Conv_0", "Conv_6"))
    assert (second.name, second.sources) == ("Conv_3", ("Conv_3",))
    assert classifier.frozen == "its channels are the model output y"
    axes = [axis for _, axis, _ in second.members]
    assert axes == [0, 0, 0, 0, 0, 0, 1]
    assert all(positions == tuple((i,) for i in range(8)) for _, _, positions in second.members)


@pytest.mark.parametrize("name", builders.BUILDERS)
def test_no_weight_position_is_in_two_units(name):
    taken = set()
    for group in groups_of(builders.BUILDERS[name]()):
        for weight, axis, positions in group.members:
            places = {(weight, axis, p) for unit in positions for p in unit}
            assert len(places) == sum(map(len, positions))
            assert taken.isdisjoint(places)
            taken |= places


def test_shapes_of_the_smaller_graph_are_stated():
    smaller = cut(builders.BUILDERS["static_batch"](), {"Conv_0": [0, 2]})
    assert smaller.graph.initializers["w_2"].shape == [2]
    assert builders.run(smaller, builders.feeds_of(smaller, batch=1))[0].shape == (1, 4)


def test_groups_are_shown_with_the_reasons():
    document = groups_document(ROOT / "models" / "digits_mlp.onnx")
    table = document.blocks[0]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["MatMul", "MatMul1", "MatMul2"]
    assert [column.title for column in table.columns][-1] == "frozen because"
    assert [row[-1] for row in table.rows] == ["-", "-", "Softmax Relu2 mixes its positions"]
    assert document.data["groups"][0]["size"] == 256
