"""Models above the limit of protobuf: the limit is lowered, and results are those of the same model below it."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import optimize
from onnxopt.catalog import parse
from onnxopt.model_file import load, memory, save
from onnxopt.passes import quantize_weights
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.target import target_of
from onnxopt.tasks.apply import apply
from onnxopt.tasks.quantize import quantize
from tests import builders, numerics
from tests.builders import I64, F, Net

LIMIT_BYTES = 10_000
TARGET = "x86-vnni"
FEEDS = {"ids": np.array([[0, 7, 49], [3, 3, 20]])}


def network(opset: int = 17) -> ir.Model:
    """Return a table, products with and without a bias and a transposed weight, and a convolution."""
    net = Net(5)
    x = net.node("Gather", net.weight(50, 64, name="table"), "ids", axis=0, name="lookup")
    x = net.node("Relu", net.node("MatMul", x, net.weight(64, 96, name="up"), name="up"))
    x = net.node("MatMul", x, net.weight(96, 64, name="down"), name="down")
    flat = net.node("Reshape", net.node("Identity", x), net.ints(-1, 64))
    flat = net.node("Gemm", flat, net.weight(48, 64, name="head"), net.weight(48), transB=1, name="head")
    image = net.node("Reshape", flat, net.ints(-1, 3, 4, 4))
    net.node("Flatten", net.conv(image, 3, 4, name="conv"), out="y")
    return net.model([("ids", I64, ["batch", "time"])], [("y", F, ["rows", 64])], opset=opset)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of the network, which is above the limit from now on."""
    monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", LIMIT_BYTES)
    return save(network(), tmp_path / "large.onnx")[0]


def without_limit(spec: str, target: str = TARGET) -> Optimized:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "EXTERNAL_ABOVE_BYTES", 1 << 30)
        return Pipeline(parse(spec)).run(network(), Context(target_of(target)))


def stored(model: ir.Model) -> dict[str, tuple[str, bytes]]:
    tensors = {name: value.const_value for name, value in model.graph.initializers.items()}
    return {name: (f"{t.dtype}{t.shape}", t.tobytes()) for name, t in tensors.items() if t is not None}


def zero_point_of(model: ir.Model, weight: str) -> tuple[str, bytes]:
    """Return the zero point that the product with a weight reads: equal ones may be held once."""
    (product,) = (
        node for node in model.graph if node.op_type == "MatMulInteger" and reads(node, f"{weight}_quantized")
    )
    zero_point = product.inputs[3]
    assert zero_point is not None
    return stored(model)[zero_point.name or ""]


def reads(node: ir.Node, name: str) -> bool:
    return any(value is not None and value.name == name for value in node.inputs)


@pytest.mark.parametrize(
    "spec",
    [
        "quantize-weights{bits=8,method=rtn}",
        "quantize-weights{bits=4,method=rtn}",
        "quantize-weights{bits=4}",
        "quantize-weights{bits=4,method=k-quant}",
        "quantize-weights{bits=4,tables=true}",
        "quantize-weights{bits=2,block=64}",
        "quantize-weights{bits=4,form=standard}",
        "quantize-weights{form=dequantize}",
        "store-float16",
        "share-weights",
        "share-weights{bits=4}",
    ],
)
def test_a_pass_writes_the_same_weights_as_below_the_limit(spec: str, large: Path, tmp_path: Path) -> None:
    expected = without_limit(spec)
    made = apply(large, spec, out=tmp_path / "out.onnx", target=TARGET)
    assert [f.name for f in made.files] == ["out.onnx", "out.onnx.data"]
    written = load(made.files[0])
    assert stored(written) == stored(expected.model)
    assert [n.op_type for n in written.graph] == [n.op_type for n in expected.model.graph]
    assert {e.target for e in made.optimized.steps[0].edits} >= {"up", "down", "head"}


def test_weights_are_computed_once_and_not_before_they_are_written(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes, rounding = list[tuple[int, ...]](), quantize_weights.by_rows

    def counted(rule, weight, bits, block):  # type: ignore[no-untyped-def]
        shapes.append(weight.shape)
        return rounding(rule, weight, bits, block)

    monkeypatch.setattr(quantize_weights, "by_rows", counted)
    made = Pipeline(parse("quantize-weights{bits=4,method=rtn}")).run(load(large), Context(target_of(TARGET)))
    assert shapes == []
    save(made.model, tmp_path / "out.onnx")
    assert sorted(shapes) == [(48, 64), (64, 96), (96, 64)]


@pytest.mark.parametrize("target", [TARGET, "x86-avx2"])
@pytest.mark.parametrize("options", ["", "{per_channel=false}", "{weight_type=uint8}", "{reduce_range=yes}"])
def test_dynamic_integers_are_those_of_the_runtimes_quantizer(
    options: str, target: str, large: Path, tmp_path: Path
) -> None:
    theirs = without_limit(f"quantize-dynamic{options}", target).model
    made = apply(large, f"quantize-dynamic{options}", out=tmp_path / "out.onnx", target=target)
    written = load(made.files[0])
    expected, found = stored(theirs), stored(written)
    for weight in ("up", "down"):
        for word in ("quantized", "scale"):
            assert found[f"{weight}_{word}"] == expected[f"{weight}_{word}"]
        assert zero_point_of(written, weight) == zero_point_of(theirs, weight)
    assert {e.target for e in made.optimized.steps[0].edits} == {"lookup", "up", "down", "head"}
    assert {s.target for s in made.optimized.steps[0].skipped} == {"conv"}
    (before,), (after,) = builders.run(network(), FEEDS), builders.run(written, FEEDS)
    assert numerics.sqnr_db(before, after) > numerics.INT8_SQNR_DB


def test_a_product_is_written_with_the_nodes_of_the_runtimes_quantizer(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(9)
    x = net.node("Relu", net.node("MatMul", "x", net.weight(8, 128, name="up"), name="up"))
    net.node("Add", net.node("MatMul", x, net.weight(128, 64, name="down"), name="down"), net.weight(64), out="y")
    model = net.model([builders.ROWS], [("y", F, ["batch", 64])])
    made = []
    for limit in (1 << 30, LIMIT_BYTES):
        monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", limit)
        made.append(Pipeline(parse("quantize-dynamic")).run(model, Context(target_of(TARGET))).model)
    theirs, ours = made
    assert sorted(n.op_type for n in ours.graph) == sorted(n.op_type for n in theirs.graph)
    x = {"x": np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)}
    np.testing.assert_array_equal(builders.run(theirs, x)[0], builders.run(ours, x)[0])


def test_layers_that_stay_in_float_have_a_reason(large: Path) -> None:
    spec = "quantize-dynamic{op_types=[MatMul],exclude=[up]}"
    (step,) = Pipeline(parse(spec)).run(load(large), Context(target_of(TARGET))).steps
    assert {s.target: s.reason for s in step.skipped} == {
        "up": "excluded",
        "head": "not among the op types chosen",
        "conv": "dynamic quantization makes convolutions slower",
    }


def test_an_old_opset_is_raised_with_the_weights_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", LIMIT_BYTES)
    file = save(network(opset=10), tmp_path / "old.onnx")[0]
    made = Pipeline(parse("quantize-dynamic")).run(load(file), Context(target_of(TARGET)))
    assert {e.target for e in made.steps[0].edits} == {"up", "down", "head"}
    assert {s.target: s.reason for s in made.steps[0].skipped}["lookup"].startswith("opset 11")
    (before,), (after,) = builders.run(network(), FEEDS), builders.run(made.model, FEEDS)
    assert numerics.sqnr_db(before, after) > numerics.INT8_SQNR_DB


def test_a_large_model_is_simplified_and_its_weights_are_not_read(large: Path, tmp_path: Path) -> None:
    made = apply(large, "simplify", out=tmp_path / "out.onnx", target=TARGET)
    (step,) = made.optimized.steps
    assert any("Identity" in edit.action for edit in step.edits)
    assert any("large weights were not folded" in skip.reason for skip in step.skipped)
    written = load(made.files[0])
    assert "Identity" not in {n.op_type for n in written.graph}
    assert [v.name for v in written.graph.inputs] == ["ids"]
    before = stored(load(large))
    assert {name: stored(written)[name] for name in ("table", "up", "down", "head")} == {
        name: before[name] for name in ("table", "up", "down", "head")
    }
    np.testing.assert_array_equal(builders.run(network(), FEEDS)[0], builders.run(written, FEEDS)[0])


def test_static_quantization_says_why_it_leaves_a_large_model(large: Path) -> None:
    made = quantize(large, [dict(FEEDS)] * 8, simplify=False, target=TARGET)
    assert not made.optimized.steps[0].edits
    assert made.note.startswith("Nothing was quantized: ONNX Runtime's quantizer takes no model above 1.5 GB")


@pytest.mark.slow
def test_a_search_takes_a_large_model(large: Path, tmp_path: Path) -> None:
    run = optimize(large, "random", out=tmp_path / "run", time_limit_s=60)
    assert run.record.trials
    best = load(tmp_path / "run" / "best.onnx")
    assert builders.run(best, FEEDS)[0].shape == (6, 64)
