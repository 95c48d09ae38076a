"""Pruned weights are zero, as many as asked for, and the others are as they were."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16
from onnx import helper, numpy_helper

from onnxopt import catalog
from onnxopt.errors import DataError, FileError, OnnxoptError, UsageError
from onnxopt.graph.edit import set_weight
from onnxopt.importance import gradual_ratios
from onnxopt.model_file import from_proto, to_bytes, to_proto
from onnxopt.passes.prune_weights import PruneWeights
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.target import target_of
from tests import builders
from tests.builders import CLASSES, IMAGE, ROWS, F, Net


def pruned(model: ir.Model, seed: int = 0, **options: Any) -> Optimized:
    return Pipeline((PruneWeights(**options),)).run(model, Context(target_of("x86-vnni"), seed=seed))


def arrays(model: ir.Model) -> dict[str, np.ndarray]:
    tensors = {name: v.const_value for name, v in model.graph.initializers.items()}
    return {name: t.numpy() for name, t in tensors.items() if t is not None}


def share(array: np.ndarray) -> float:
    return float(np.mean(array == 0))


def products(*shapes: tuple[int, int], seed: int = 0, ties: bool = False) -> ir.Model:
    """Return one MatMul per shape, each on its own input."""
    net = Net(seed)
    for number, (rows, columns) in enumerate(shapes):
        weight = net.rng.standard_normal((rows, columns)) * (number + 1)
        array = (np.round(weight) if ties else weight).astype(np.float32)
        net.node("MatMul", f"x{number}", net.const(array, f"w{number}"), out=f"y{number}", name=f"layer{number}")
    inputs = [(f"x{i}", F, ["batch", rows]) for i, (rows, _) in enumerate(shapes)]
    return net.model(inputs, [(f"y{i}", F, ["batch", columns]) for i, (_, columns) in enumerate(shapes)], opset=13)


SHAPES = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3)
RATIOS = st.one_of(st.sampled_from([0.25, 0.5, 1.0]), st.floats(0.01, 1))


@given(SHAPES, RATIOS, st.booleans(), st.sampled_from(["magnitude", "random", "lamp"]))
def test_the_ratio_is_met_within_one_element(shapes, ratio, ties, importance) -> None:
    model = products(*shapes, ties=ties)
    before, after = arrays(model), arrays(pruned(model, ratio=ratio, importance=importance).model)
    for name, array in before.items():
        zeros = int((after[name] == 0).sum())
        assert abs(max(zeros, ratio * array.size) - max(ratio * array.size, (array == 0).sum())) <= 1
        kept = after[name] != 0
        assert after[name][kept].tobytes() == array[kept].tobytes()
        if importance != "random" and kept.any() and not kept.all():
            assert np.abs(array[~kept]).max() <= np.abs(array[kept]).min()


@given(SHAPES, RATIOS, st.booleans())
def test_the_global_scope_keeps_the_largest_of_all(shapes, ratio, ties) -> None:
    model = products(*shapes, ties=ties)
    before, after = arrays(model), arrays(pruned(model, ratio=ratio, scope="global").model)
    old, new = (np.concatenate([a[n].ravel() for n in before]) for a in (before, after))
    assert abs((new == 0).sum() - max(ratio * old.size, (old == 0).sum())) <= 1
    if new.any() and not new.all():
        assert np.abs(old[new == 0]).max() <= np.abs(old[new != 0]).min()


@given(SHAPES, st.sampled_from(["1:2", "2:4", "1:4", "3:7"]))
def test_n_of_m_holds_along_the_inputs(shapes, pattern) -> None:
    model = products(*shapes)
    keep, group = map(int, pattern.split(":"))
    for array in arrays(pruned(model, pattern=pattern).model).values():
        for start in range(0, array.shape[0], group):
            part = array[start : start + group]
            assert ((part != 0).sum(axis=0) == min(keep, len(part))).all()


@given(SHAPES, RATIOS, st.sampled_from(["1x4", "4x1", "4x4", "2x3"]), st.sampled_from(["local", "global"]))
def test_blocks_go_or_stay_as_a_whole(shapes, ratio, pattern, scope) -> None:
    model = products(*shapes)
    outputs, inputs = map(int, pattern.split("x"))
    after = arrays(pruned(model, ratio=ratio, pattern=pattern, scope=scope).model)
    zeros = elements = 0
    for array in after.values():
        for row in range(0, array.shape[0], inputs):
            for column in range(0, array.shape[1], outputs):
                block = array[row : row + inputs, column : column + outputs]
                assert block.all() or not block.any()
        zeros, elements = zeros + (array == 0).sum(), elements + array.size
        if scope == "local":
            assert abs((array == 0).sum() - ratio * array.size) <= outputs * inputs
    if scope == "global":
        assert abs(zeros - ratio * elements) <= outputs * inputs


@pytest.mark.parametrize("text", ["prune-weights", "prune-weights{importance=random,ratio=0.3}"])
def test_same_seed_same_bytes(text: str) -> None:
    runs = [
        Pipeline(catalog.parse(text)).run(products((8, 8)), Context(target_of("x86-vnni"), seed=s)) for s in (1, 1, 2)
    ]
    first, second, other = (to_bytes(r.model) for r in runs)
    assert first == second
    assert (first != other) == ("random" in text)


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("name", ["residual_cnn", "gemm_mlp", "lstm", "gru", "shared_weights", "half_weights"])
def test_outputs_are_those_of_masked_weights(name: str, optimized: bool) -> None:
    model = builders.BUILDERS[name]()
    result = pruned(model, ratio=0.4)
    touched = {e.target.rpartition(": ")[2] for e in result.steps[0].edits} - {"graph"}
    reference = model.clone()
    for weight in touched:
        value = reference.graph.initializers[weight]
        array = arrays(model)[weight]
        order = np.argsort(np.abs(array.astype(np.float64)), axis=None, kind="stable")
        mask = np.ones(array.size, array.dtype)
        mask[order[: round(0.4 * array.size)]] = 0
        set_weight(value, array * mask.reshape(array.shape))
    feeds = builders.feeds_of(model)
    assert touched
    for one, other in zip(
        builders.run(reference, feeds, optimized), builders.run(result.model, feeds, optimized), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_biases_norms_and_other_operators_stay() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    before, after = arrays(model), arrays(pruned(model).model)
    for name, array in before.items():
        assert share(after[name]) == (0.5 if array.ndim > 1 else share(array))


def test_both_weights_of_a_recurrent_layer_are_pruned_and_not_its_bias() -> None:
    after = arrays(pruned(builders.BUILDERS["lstm"]()).model)
    assert [share(a) for a in after.values() if a.ndim == 3] == [0.5, 0.5]
    assert [share(a) for a in after.values() if a.shape == (2, 48)] == [0]


@pytest.mark.parametrize("dtype", [np.float16, bfloat16, np.float64])
def test_other_float_types_keep_their_type(dtype: Any) -> None:
    model = builders.BUILDERS["half_weights"]()
    (name,) = [n for n, a in arrays(model).items() if a.dtype == bfloat16]
    set_weight(model.graph.initializers[name], arrays(model)[name].astype(dtype))
    after = arrays(pruned(model).model)[name]
    assert after.dtype == dtype
    assert share(after) == 0.5
    kept = after != 0
    assert after[kept].tobytes() == arrays(model)[name][kept].tobytes()


def test_a_shared_weight_is_one_weight() -> None:
    step = pruned(builders.BUILDERS["shared_weights"]()).steps[0]
    assert [e.target for e in step.edits] == ["Gemm_0, Gemm_2, MatMul_4: shared.weight", "graph"]


def test_weights_in_constant_nodes_and_behind_identity_and_transpose_are_found() -> None:
    for name, weights in (("constant_nodes", 2), ("behind_identity", 2)):
        result = pruned(builders.BUILDERS[name]())
        assert len(result.steps[0].edits) == weights + 1
        assert sorted(share(a) for a in arrays(result.model).values() if a.ndim == 2) == [0.5] * weights


@pytest.mark.parametrize("name", ["if_branches", "loop"])
def test_weights_in_subgraphs_are_pruned(name: str) -> None:
    result = pruned(builders.BUILDERS[name](), ratio=0.9)
    inner = [
        v.const_value.numpy() for g in result.model.graph.subgraphs() for v in g.initializers.values() if v.const_value
    ]
    assert inner
    assert all(abs(share(a) - 0.9) <= 1 / a.size for a in inner if a.ndim == 2)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("embedding", "also read by Gather_0"),
        ("already_quantized", "quantized"),
        ("with_function", "inside a function"),
    ],
)
def test_what_is_left_alone_has_a_reason(name: str, reason: str) -> None:
    assert any(reason in s.reason for s in pruned(builders.BUILDERS[name]()).steps[0].skipped)


def test_a_weight_with_nan_is_left_alone() -> None:
    model = products((4, 4), (4, 4))
    array = arrays(model)["w0"].copy()
    array[1, 2] = np.nan
    set_weight(model.graph.initializers["w0"], array)
    result = pruned(model, scope="global")
    assert [(s.target, s.reason) for s in result.steps[0].skipped] == [
        ("layer0", "its weight holds NaN or infinite values")
    ]
    assert share(arrays(result.model)["w1"]) == 0.5


def test_a_pattern_follows_the_inputs_of_every_operator() -> None:
    net = Net(3)
    hidden = net.conv(net.conv("x", 3, 8, k=1), 8, 8, k=1)
    up = net.node("ConvTranspose", hidden, net.weight(8, 4, 2, 2, name="up"), strides=[2, 2])
    net.pool_fc(up, 4, 4)
    model = net.model([IMAGE], [CLASSES], opset=13)
    result = pruned(model, pattern="2:4")
    after = arrays(result.model)
    conv = next(n for n, a in after.items() if a.shape == (8, 8, 1, 1))
    dense = next(n for n, a in after.items() if a.shape == (4, 4))
    for name, axis in ((conv, 1), ("up", 0), (dense, 1)):
        rows = np.moveaxis(after[name], axis, -1)
        assert ((rows.reshape(*rows.shape[:-1], -1, 4) != 0).sum(axis=-1) == 2).all(), name


def test_a_pattern_that_a_weight_cannot_have_is_skipped() -> None:
    result = pruned(builders.BUILDERS["depthwise_separable"](), pattern="2:4")
    assert ("Conv_2", "it has 1 inputs per output, of which 2 stay") in [
        (s.target, s.reason) for s in result.steps[0].skipped
    ]
    shared = pruned(builders.BUILDERS["behind_identity"](), pattern="1x4")
    assert any("shared" in s.reason for s in shared.steps[0].skipped)


def test_count_is_per_layer_or_of_all() -> None:
    model = products((4, 4), (5, 5))
    assert [int((a == 0).sum()) for a in arrays(pruned(model, count=3).model).values()] == [3, 3]
    assert sum(int((a == 0).sum()) for a in arrays(pruned(model, count=3, scope="global").model).values()) == 3
    with pytest.raises(UsageError, match="20 of 16"):
        pruned(model, count=20)


@pytest.mark.parametrize("options", [{"ratio": 0.0}, {"count": 0}, {"ratio": 0.0, "pattern": "2:4"}])
def test_nothing_requested_is_nothing_done(options: dict[str, Any]) -> None:
    model = builders.BUILDERS["constant_nodes"]()
    context = Context(target_of("x86-vnni"))
    applied = PruneWeights(**options).apply(model, context)
    assert applied.model is model
    assert not applied.edits


def test_pruning_twice_changes_nothing_more() -> None:
    once = pruned(products((8, 8)))
    again = pruned(once.model)
    assert not again.steps[0].edits
    assert "had to become zero" in again.steps[0].skipped[0].reason


def test_excluded_layers_stay() -> None:
    model = products((4, 4), (4, 4))
    result = pruned(model, exclude=("layer1",))
    assert [share(a) for a in arrays(result.model).values()] == [0.5, 0]
    assert [(s.target, s.reason) for s in result.steps[0].skipped] == [("layer1", "excluded by name")]
    with pytest.raises(UsageError, match=r"ONX102.*layer1"):
        pruned(model, exclude=("layer_1",))


def test_the_note_is_honest() -> None:
    note = pruned(products((64, 64)), ratio=0.9).steps[0].edits[-1]
    assert note.target == "graph"
    assert "no speed" in note.action
    after, before = (int(note.action.partition(word)[2].split()[0].rstrip(",;")) for word in ("deflate to", "from"))
    assert "3686 of 4096 weights" in note.action
    assert 0 < after < before / 2


@given(st.integers(0, 2**16 - 1), st.sampled_from([bool, np.uint8, np.float32]))
def test_masks_are_applied_exactly_and_alone(bits: int, dtype: Any) -> None:
    model = products((4, 4), (4, 4))
    mask = np.array([bits >> i & 1 for i in range(16)], dtype).reshape(4, 4)
    path = Path(_folder()) / "masks.npz"
    np.savez(path, w0=mask)
    before, result = arrays(model), pruned(model, masks=str(path))
    np.testing.assert_array_equal(arrays(result.model)["w0"], before["w0"] * mask.astype(np.float32))
    assert arrays(result.model)["w1"].tobytes() == before["w1"].tobytes()
    assert ("layer1", "no mask for its weight w1") in [
        (s.target, s.reason) for s in result.steps[0].skipped
    ] or mask.all()


@pytest.mark.parametrize(
    ("masks", "kind", "text"),
    [
        ({"w_0": np.ones((4, 4))}, UsageError, "ONX102.*'w0'"),
        ({"w0": np.ones((4, 5))}, DataError, r"ONX203.*\(4, 5\), the weight \(4, 4\)"),
        ({"w0": np.full((4, 4), 0.5)}, DataError, "ONX204"),
        ({"w0": np.full((4, 4), np.nan)}, DataError, "ONX204"),
        ({"w0": np.full((4, 4), "1")}, DataError, "ONX204"),
        ({}, DataError, "ONX201"),
    ],
)
def test_wrong_masks(tmp_path: Path, masks: dict[str, np.ndarray], kind: type[OnnxoptError], text: str) -> None:
    np.savez(tmp_path / "m.npz", **masks)
    with pytest.raises(kind, match=text):
        pruned(products((4, 4)), masks=str(tmp_path / "m.npz"))


def test_wrong_mask_files(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="ONX501"):
        pruned(products((4, 4)), masks=str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match="ONX201"):
        pruned(products((4, 4)), masks=str(tmp_path / "text.npz"))
    with pytest.raises(FileError, match="ONX505"):
        pruned(products((4, 4)), masks=str(tmp_path))


def test_a_mask_for_a_bias_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **{"shared.bias": np.ones(8)})
    with pytest.raises(UsageError, match=r"ONX102.*shared\.bias"):
        pruned(builders.BUILDERS["shared_weights"](), masks=str(tmp_path / "m.npz"))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ratio=1.5", "ONX101"),
        ("ratio=half", "ONX101"),
        ("count=-1", "ONX101"),
        ("pattern=4:2", "ONX101"),
        ("pattern=0:2", "ONX101"),
        ("pattern=2by4", "ONX101"),
        ("importance=l1", "ONX101"),
        ("scope=layer", "ONX101"),
        ("ratio=0.3,count=5", "ONX109"),
        ("pattern=2:4,ratio=0.3", "ONX109"),
        ("pattern=2:4,count=3", "ONX109"),
        ("pattern=2:4,scope=global", "ONX109"),
        ("masks=a.npz,ratio=0.3", "ONX109"),
        ("masks=a.npz,importance=random", "ONX109"),
        ("amount=0.3", "ONX102"),
    ],
)
def test_wrong_options(text: str, code: str) -> None:
    with pytest.raises(UsageError, match=code):
        catalog.parse(f"prune-weights{{{text}}}")


@pytest.mark.parametrize(
    "text",
    [
        "prune-weights{ratio=0.3,scope=global,importance=lamp}",
        "prune-weights{count=12,exclude=[a,/b/c]}",
        "prune-weights{pattern=2:4}",
        "prune-weights{ratio=0.75,pattern=1x4}",
        "prune-weights{masks=/tmp/m.npz}",
    ],
)
def test_options_survive_text(text: str) -> None:
    assert catalog.format_passes(catalog.parse(text)) == text


def test_python_options_are_checked_too() -> None:
    with pytest.raises(UsageError, match="ONX101"):
        PruneWeights(ratio=float("nan"))


def test_a_layer_without_weights_is_no_layer() -> None:
    net = Net(1)
    net.node("MatMul", "x", net.node("Transpose", "x", perm=[1, 0]), out="y")
    step = pruned(net.model([ROWS], [("y", F, None)], opset=13)).steps[0]
    assert (step.edits, step.skipped) == ((), ())


def test_a_half_constant_node_is_left_alone_with_a_reason() -> None:
    net = Net(1)
    constant = net.node("Constant", value=numpy_helper.from_array(np.ones((8, 4), np.float64)))
    net.node("Cast", net.node("MatMul", net.node("Cast", "x", to=11), constant), to=F, out="y")
    step = pruned(from_proto(to_proto(net.model([ROWS], [CLASSES], opset=13)))).steps[0]
    assert [s.reason for s in step.skipped] == ["its weight is a Constant node; run simplify first"]


def _folder() -> str:
    import tempfile

    return tempfile.mkdtemp()


def observed(model: ir.Model, **options: Any) -> Optimized:
    context = Context(target_of("x86-vnni"), builders.samples_of(model))
    return Pipeline((PruneWeights(importance="wanda", **options),)).run(model, context)


def unfolded(model: ir.Model, value: str, kernel: int, stride: int, pads: tuple[int, int]) -> np.ndarray:
    """Return the norm of every input of a square convolution over all samples, (channels, kernel, kernel), in loops."""
    watched = model.clone()
    found = next(v for n in watched.graph for v in n.outputs if v.name == value)
    watched.graph.outputs.append(found)
    sums: Any = 0.0
    for feeds in builders.samples_of(model).with_batch_size(1):
        x = np.pad(builders.run(watched, dict(feeds))[-1].astype(np.float64), ((0, 0), (0, 0), pads, pads))
        for row in range(0, x.shape[2] - kernel + 1, stride):
            for column in range(0, x.shape[3] - kernel + 1, stride):
                sums = sums + np.square(x[0, :, row : row + kernel, column : column + kernel])
    return np.sqrt(sums)


@given(SHAPES, RATIOS, st.booleans())
def test_wanda_meets_the_ratio_and_takes_as_much_of_every_output(shapes, ratio, ties) -> None:
    model = products(*shapes, ties=ties)
    before, after = arrays(model), arrays(observed(model, ratio=ratio, scope="output").model)
    inputs = list(builders.samples_of(model).with_batch_size(1))
    for number, (name, array) in enumerate(before.items()):
        norms = np.sqrt(sum(np.square(feeds[f"x{number}"][0].astype(np.float64)) for feeds in inputs))
        scores = np.abs(array) * norms[:, None]
        kept = after[name] != 0
        zeros, wanted = int((~kept).sum()), round(ratio * array.size)
        assert zeros == wanted or (array == 0).any()
        assert zeros >= wanted
        for column in range(array.shape[1]):
            gone = np.count_nonzero(~kept[:, column] & (array[:, column] != 0))
            assert gone <= -(-wanted // array.shape[1])
            if kept[:, column].any() and not kept[:, column].all():
                assert scores[~kept[:, column], column].max() <= scores[kept[:, column], column].min()


@pytest.mark.parametrize(
    ("attrs", "stride", "pads"),
    [
        ({"pads": [1, 1, 1, 1]}, 1, (1, 1)),
        ({"pads": [0, 0, 1, 1], "strides": [2, 2]}, 2, (0, 1)),
        ({"pads": None, "auto_pad": "SAME_UPPER", "strides": [2, 2]}, 2, (0, 1)),
        ({"pads": None, "auto_pad": "SAME_LOWER", "strides": [2, 2]}, 2, (1, 0)),
        ({"pads": None, "auto_pad": "VALID"}, 1, (0, 0)),
    ],
)
@pytest.mark.parametrize("group", [1, 2])
def test_wanda_sees_what_a_convolution_reads(attrs, stride, pads, group) -> None:
    """Compared within each output, and within the layer."""
    net = Net(4)
    hidden = net.node("Relu", net.conv("x", 3, 8), out="hidden")
    attrs = {k: v for k, v in {"pads": [0] * 4, **attrs}.items() if v is not None}
    inputs = (hidden, net.const(net.rng.standard_normal((4, 8 // group, 3, 3)).astype(np.float32), "kernel"))
    net.pool_fc(net.node("Conv", *inputs, kernel_shape=[3, 3], group=group, **attrs), 4, 4)
    model = net.model([IMAGE], [CLASSES], opset=13)
    norms = unfolded(model, "hidden", 3, stride, pads).reshape(group, 8 // group, 3, 3)
    kernel = arrays(model)["kernel"]
    scores = np.abs(kernel) * np.repeat(norms, 4 // group, axis=0)
    local = arrays(observed(model, ratio=0.5).model)["kernel"]
    assert scores[local == 0].max() < scores[local != 0].min()
    after = arrays(observed(model, ratio=0.5, scope="output").model)["kernel"]
    expected = np.argsort(scores.reshape(4, -1), axis=1)[:, : kernel[0].size // 2]
    for row, gone in zip(after.reshape(4, -1), expected, strict=True):
        assert set(np.flatnonzero(row == 0)) == set(gone)


def test_wanda_counts_and_patterns() -> None:
    model = products((8, 3))
    assert [int((c == 0).sum()) for c in arrays(observed(model, count=7, scope="output").model)["w0"].T] == [2, 2, 3]
    after = arrays(observed(model, pattern="2:4").model)["w0"]
    assert (after.reshape(2, 4, 3) != 0).sum(axis=1).tolist() == [[2, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize("scope", ["local", "output"])
@pytest.mark.parametrize("name", builders.BUILDERS)
def test_wanda_prunes_or_says_why_not(name: str, scope: str) -> None:
    model = builders.BUILDERS[name]()
    result = observed(model, ratio=0.5, scope=scope)
    (step,) = result.steps
    assert all(s.reason for s in step.skipped)
    before, after = arrays(model), arrays(result.model)
    for edit in step.edits:
        weight = edit.target.rpartition(": ")[2]
        if weight in before:
            assert abs(int((after[weight] == 0).sum()) - before[weight].size / 2) <= 1
    feeds = builders.feeds_of(model, batch=1 if name in builders.RUNS_AT_ONE_ONLY else 2)
    builders.run(result.model, feeds)


def test_wanda_leaves_what_it_cannot_observe() -> None:
    reasons = {s.reason for s in observed(builders.BUILDERS["lstm"]()).steps[0].skipped}
    assert reasons == {"the inputs of its recurrent weights cannot be observed"}
    reasons = {s.reason for s in observed(builders.BUILDERS["if_branches"]()).steps[0].skipped}
    assert "its inputs are inside control flow, where they cannot be observed" in reasons


def test_wanda_without_samples_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"ONX114.*wanda needs calibration samples"):
        pruned(products((4, 4)), importance="wanda")


@pytest.mark.parametrize(
    "text",
    [
        "importance=wanda,scope=global",
        "importance=wanda,scope=output,pattern=4x1",
        "importance=wanda,scope=output,pattern=2:4",
        "scope=output",
    ],
)
def test_scopes_that_wanda_has_not_and_others_have_not(text: str) -> None:
    with pytest.raises(UsageError, match="ONX109"):
        catalog.parse(f"prune-weights{{{text}}}")


def test_a_caller_prunes_gradually_with_the_cubic_schedule() -> None:
    model = products((10, 10))
    shares = []
    for ratio in gradual_ratios(0, 0.8, 4):
        model = pruned(model, ratio=ratio).model
        shares.append(share(arrays(model)["w0"]))
    assert shares == pytest.approx([0.4625, 0.7, 0.7875, 0.8], abs=0.01)
    assert shares[-1] == 0.8


def test_namesakes_in_two_branches_are_left_alone() -> None:
    def branch(width: int) -> Any:
        inner = Net(width, f"branch_{width}_")
        middle = inner.node("MatMul", "x", inner.weight(8, width, name="same"))
        inner.node("MatMul", middle, inner.weight(width, 4))
        out = helper.make_tensor_value_info(inner.nodes[-1].output[0], F, ["batch", 4])
        return helper.make_graph(inner.nodes, f"branch_{width}", [], [out], inner.weights)

    net = Net(6)
    test = net.node("Greater", net.node("ReduceSum", "x", keepdims=0), net.const(np.float32(0)))
    net.node("If", test, out="y", then_branch=branch(6), else_branch=branch(7))
    step = pruned(net.model([ROWS], [CLASSES], opset=13)).steps[0]
    assert [s.reason for s in step.skipped] == ["weights of several branches have its name"] * 2
    assert len(step.edits) == 3
