"""Blocks that matter least go, as many as asked for, and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import catalog
from onnxopt.errors import UsageError
from onnxopt.graph.edit import set_weight
from onnxopt.model_file import load, to_bytes
from onnxopt.passes.prune_blocks import PruneBlocks
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.pruning import block_proof
from onnxopt.pruning.block_loss import BlockLoss
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import CLASSES, ROWS, Net

MODELS = Path(__file__).parents[2] / "models"


def chain(*scales: float) -> ir.Model:
    """Return residual blocks `block0`, `block1`, ... whose branches are as large as `scales`."""
    net = Net(1)
    x = "x"
    for number, scale in enumerate(scales):
        weight = net.const((net.rng.standard_normal((8, 8)) / 3 * scale).astype(np.float32))
        x = net.node("Add", x, net.node("MatMul", x, weight, name=f"block{number}"))
    net.node("MatMul", x, net.weight(8, 4), out="y", name="head")
    return net.model([ROWS], [CLASSES], opset=13)


def nested() -> ir.Model:
    """Return a block with another inside, and one after them."""
    net = Net(2)
    lower = net.node("MatMul", "x", net.weight(8, 8), name="lower")
    inner = net.node("Add", lower, net.node("MatMul", lower, net.weight(8, 8), name="inner"))
    total = net.node("Add", "x", inner, name="outer")
    last = net.node("Add", total, net.node("MatMul", total, net.weight(8, 8), name="last"))
    net.node("MatMul", last, net.weight(8, 4), out="y", name="head")
    return net.model([ROWS], [CLASSES], opset=13)


def pruned(model: ir.Model, samples: bool = True, seed: int = 0, **options: Any) -> Optimized:
    context = Context(target_of("x86-vnni"), builders.samples_of(model) if samples else None, seed=seed)
    return Pipeline((PruneBlocks(**{"compensate": "none"} | options),)).run(model, context)


def removed(result: Optimized) -> list[str]:
    return [e.target for e in result.steps[0].edits if e.target != "graph"]


def reasons(result: Optimized) -> dict[str, str]:
    return {s.target: s.reason for s in result.steps[0].skipped}


@pytest.mark.parametrize("samples", [True, False])
@pytest.mark.parametrize("importance", ["fidelity", "magnitude"])
def test_the_least_important_go_first(samples: bool, importance: str) -> None:
    model = chain(1, 0.02, 0.5, 0.1)
    assert removed(pruned(model, samples, count=1, importance=importance)) == ["block1"]
    result = pruned(model, samples, count=3, importance=importance)
    assert removed(result) == ["block1", "block3", "block2"]
    assert list(reasons(result)) == ["block0"]
    assert [n.name for n in result.model.graph if n.op_type == "MatMul"] == ["block0", "head"]


def test_the_order_is_measured_again_after_each_removal() -> None:
    net, x = Net(3), "x"
    weight = (net.rng.standard_normal((8, 8)) / 3).astype(np.float32)
    for number, scale in enumerate((1.0, -0.9, -0.95)):
        # Alone the first is the largest; once the second is gone, it makes up for that one.
        x = net.node("Add", x, net.node("MatMul", "x", net.const(weight * np.float32(scale)), name=f"block{number}"))
    net.node("MatMul", x, net.weight(8, 4), out="y", name="head")
    model = net.model([ROWS], [CLASSES], opset=13)
    assert removed(pruned(model, count=1)) == ["block1"]
    assert removed(pruned(model, count=2)) == ["block1", "block0"]
    assert removed(pruned(model, count=2, importance="magnitude")) == ["block1", "block2"]


def test_the_result_is_the_graph_without_the_branch() -> None:
    model = chain(1, 0.02, 0.5)
    result = pruned(model, count=2)
    reference = model.clone()
    for name in removed(result):
        node = next(n for n in reference.graph if n.name == name)
        set_weight(node.inputs[1], np.zeros((8, 8), np.float32))
    feeds = builders.feeds_of(model)
    for optimized in (False, True):
        pair = builders.run(reference, feeds, optimized), builders.run(result.model, feeds, optimized)
        assert numerics.largest_difference(*pair) <= numerics.EXACT_RELATIVE
    assert numerics.largest_difference(builders.run(model, feeds), builders.run(result.model, feeds)) > 0.01
    assert result.steps[0].difference is not None
    assert result.steps[0].difference <= block_proof.PROVED_RELATIVE


def test_edits_say_what_went_and_what_it_cost() -> None:
    result = pruned(builders.BUILDERS["residual_cnn"](), count=1)
    block, note = result.steps[0].edits
    assert block.target == "Add_8"
    assert block.action.startswith("residual block: 5 nodes, 1,224 parameters; alone would change the outputs by ")
    assert note.target == "graph"
    assert note.action.startswith("1 of 1 blocks removed; the outputs change by ")
    assert note.action.endswith("on 8 calibration samples")
    assert block.action.rpartition("by ")[2] in note.action
    again = pruned(builders.BUILDERS["residual_cnn"](), samples=False, count=1)
    assert "synthetic inputs" in again.steps[0].edits[-1].action


def test_a_ratio_is_a_share_of_the_removable() -> None:
    model = chain(1, 0.02, 0.5, 0.1)
    assert [len(removed(pruned(model, ratio=r))) for r in (0, 0.25, 0.6, 1)] == [0, 1, 2, 4]
    assert removed(pruned(model)) == ["block1"]
    result = pruned(model, ratio=0.1)
    assert reasons(result) == {"graph": "the ratio is less than one of 4 blocks"}
    assert to_bytes(result.model) == to_bytes(model)


def test_blocks_inside_count_too() -> None:
    model = nested()
    for count in (1, 2, 3):
        result = pruned(model, count=count)
        note = result.steps[0].edits[-1].action
        assert note.startswith(f"{count} of 3 blocks removed")
    edits = {e.target: e.action for e in pruned(model, count=3).steps[0].edits}
    assert "inner" in edits or "1 block inside" in edits["outer"]
    whole = pruned(model, ratio=1).model
    assert [n.name for n in whole.graph] == ["head"]


def test_excluded_blocks_stay() -> None:
    model = chain(1, 0.02, 0.5)
    result = pruned(model, count=1, exclude=("block1",))
    assert removed(result) == ["block2"]
    assert reasons(result)["block1"] == "excluded by name"
    by_node = pruned(builders.BUILDERS["residual_cnn"](), exclude=("Relu_5",))
    assert reasons(by_node)["Add_8"] == "excluded by name"
    around = pruned(nested(), ratio=1, exclude=("inner",))
    assert removed(around) == ["last"]
    assert {n for n, r in reasons(around).items() if r == "excluded by name"} == {"inner", "outer"}
    with pytest.raises(UsageError, match=r"ONX102.*'block1'"):
        pruned(model, exclude=("blok1",))


def test_more_than_there_are_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"ONX101.*3 of 2"):
        pruned(chain(1, 1), count=3)


@pytest.mark.parametrize("options", [{"count": 0}, {"ratio": 0.0}])
def test_nothing_requested_is_nothing_done(options: dict[str, Any]) -> None:
    model = chain(1, 1)
    assert to_bytes(pruned(model, **options).model) == to_bytes(model)


def test_a_model_without_blocks_says_so() -> None:
    result = pruned(builders.BUILDERS["gemm_mlp"](), count=1)
    assert reasons(result) == {"graph": "it has no removable block"}


def test_layers_are_removed_on_request() -> None:
    result = pruned(builders.BUILDERS["depthwise_separable"](), count=1, layers=True)
    assert removed(result) == ["Conv_2"]
    assert result.steps[0].edits[0].action.startswith("layer: 3 nodes, 104 parameters")


def test_random_importance_follows_the_seed() -> None:
    runs = [removed(pruned(chain(*[1] * 6), count=3, importance="random", seed=s)) for s in (1, 1, 2, 3)]
    assert runs[0] == runs[1]
    assert len({tuple(r) for r in runs}) > 1


def test_a_wrong_cut_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is what stands between a mistake and the user."""
    right = block_proof.without_blocks

    def wrong(model: ir.Model, blocks: Any) -> ir.Model:
        result = right(model, blocks)
        if "block1" in {b.name for b in blocks}:
            head = next(n for n in result.graph if n.name == "head")
            set_weight(head.inputs[1], 2 * head.inputs[1].const_value.numpy())
        return result

    monkeypatch.setattr(block_proof, "without_blocks", wrong)
    result = pruned(chain(1, 0.02, 0.1), count=2)
    assert removed(result) == ["block2"]
    assert "differ from those with a block of zeros" in reasons(result)["block1"]


@pytest.mark.parametrize("samples", [True, False])
@pytest.mark.parametrize(
    "text", ["prune-blocks{ratio=1}", "prune-blocks{count=1,layers=true}", "prune-blocks{ratio=1,layers=true}"]
)
@pytest.mark.parametrize("name", builders.BUILDERS)
def test_every_builder_model_is_pruned_and_runs_or_says_why_not(name: str, text: str, samples: bool) -> None:
    model = builders.BUILDERS[name]()
    (spec,) = catalog.parse(text)
    context = Context(target_of("x86-vnni"), builders.samples_of(model) if samples else None)
    result = Pipeline((spec,)).run(model, context)
    assert not [r for r in reasons(result).values() if "not removed" in r or "measured" in r]
    assert (to_bytes(result.model) == to_bytes(model)) == (not result.steps[0].edits)
    feeds = builders.feeds_of(model, batch=1 if name in builders.RUNS_AT_ONE_ONLY else 2)
    expected = builders.run(model, feeds)
    for optimized in (False, True):
        found = builders.run(result.model, feeds, optimized)
        assert [getattr(f, "shape", None) for f in found] == [getattr(e, "shape", None) for e in expected]


@pytest.mark.parametrize(("name", "blocks"), [("resnet", 3), ("vit", 8), ("jax", 8)])
def test_blocks_of_exported_models(name: str, blocks: int) -> None:
    model = load(MODELS / f"digits_{name}.onnx")
    context = Context(target_of("x86-vnni"))
    result = Pipeline((PruneBlocks(count=2),)).run(model, context)
    assert len(removed(result)) == 2
    assert result.steps[0].edits[-1].action.startswith(f"2 of {blocks} blocks removed")
    feeds = builders.feeds_of(model)
    assert [o.shape for o in builders.run(result.model, feeds)] == [o.shape for o in builders.run(model, feeds)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ratio=1.5", "ONX101"),
        ("count=-1", "ONX101"),
        ("importance=l1", "ONX101"),
        ("samples=0", "ONX101"),
        ("ratio=0.3,count=5", "ONX109"),
        ("amount=0.3", "ONX102"),
    ],
)
def test_wrong_options(text: str, code: str) -> None:
    with pytest.raises(UsageError, match=code):
        catalog.parse(f"prune-blocks{{{text}}}")


@pytest.mark.parametrize(
    "text",
    ["prune-blocks{ratio=0.5,importance=magnitude}", "prune-blocks{count=2,layers=true,samples=16,exclude=[a,/b/c]}"],
)
def test_options_survive_text(text: str) -> None:
    assert catalog.format_passes(catalog.parse(text)) == text


def test_steps_of_one_search_share_the_losses_of_their_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, measured = chain(1.0, 0.5, 0.1, 0.2), list[Any]()
    once = BlockLoss._measured
    monkeypatch.setattr(
        BlockLoss, "_measured", lambda self, choices, batches: measured.extend(choices) or once(self, choices, batches)
    )
    context = Context(target_of("x86-vnni"), builders.samples_of(model))
    steps = [PruneBlocks(count=count, compensate="none") for count in (1, 2, 3)]
    together = [to_bytes(step.apply(model, context).model) for step in steps]
    assert len(measured) == len(set(measured)), "no choice of blocks is measured twice"
    count = len(measured)
    alone = [to_bytes(step.apply(model, Context(context.target, context.calibration)).model) for step in steps]
    assert together == alone
    assert len(measured) - count > count
