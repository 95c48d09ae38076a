"""Tables of embeddings in blocks of few bits, beside products with the same matrix."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import UsageError
from onnxopt.model_file import signature_of, size_bytes
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.quantization.block_kernels import product_missing, table_missing
from onnxopt.quantization.rounding.blockwise import Blocks
from onnxopt.samples import open_samples
from onnxopt.target import target_of
from tests import builders, numerics

TARGET = target_of("x86-vnni")
ROWS, WIDTH = 200, 64
IDS = {"ids": np.array([[0, 7, -1], [3, -200, 199]])}
SPEC = "quantize-weights{bits=4,method=rtn,tables=true}"
TIED = ("gemm", "transpose", "copy")


def language_model(head: str, width: int = WIDTH) -> ir.Model:
    """Return a table and a last product: with its matrix (a Gemm, behind a Transpose, a copy), or with another one."""
    net, rng = builders.Net(5), np.random.default_rng(3)
    numbers = rng.standard_normal((ROWS, width)).astype(np.float32)
    table = net.const(numbers, "table")
    x = net.node("Tanh", net.node("Gather", table, "ids", name="look_up"))
    if head == "gemm":
        net.node("Gemm", net.node("Reshape", x, net.ints(-1, width)), table, transB=1, name="head", out="y")
    elif head == "transpose":
        net.node("MatMul", x, net.node("Transpose", table, perm=[1, 0]), name="head", out="y")
    else:
        other = numbers if head == "copy" else rng.standard_normal((ROWS, width)).astype(np.float32)
        net.node("MatMul", x, net.const(other.T.copy()), name="head", out="y")
    shape: list[str | int] = ["rows", ROWS] if head == "gemm" else ["batch", "time", ROWS]
    return net.model([("ids", builders.I64, ["batch", "time"])], [("y", builders.F, shape)], opset=17)


def made(model: ir.Model, spec: str = SPEC, samples: np.ndarray | None = None) -> tuple[ir.Model, Step]:
    given = None if samples is None else open_samples({"ids": samples}, signature_of(model))
    done = Pipeline(parse(spec)).run(model, Context(TARGET, given))
    return done.model, done.steps[0]


def outputs(model: ir.Model) -> list[np.ndarray]:
    """Return the outputs as the file has the graph, and as the runtime optimizes it."""
    return [builders.run(model, IDS, optimized)[0] for optimized in (False, True)]


def types(model: ir.Model) -> Sequence[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(("bits", "least_db", "smaller"), [(8, 40.0, 3.3), (4, 14.0, 6.0), (2, 3.0, 9.0)])
def test_rows_of_a_stored_table_stay_close_and_the_file_shrinks(bits: int, least_db: float, smaller: float) -> None:
    model = language_model("other")
    found, step = made(model, f"quantize-weights{{bits={bits},method=k-quant,tables=true}}")
    assert types(found) == ["GatherBlockQuantized", "Tanh", "MatMulNBits"]
    assert {edit.target for edit in step.edits} == {"look_up", "head"}
    for mine in outputs(found):
        assert numerics.sqnr_db(outputs(model)[0], mine) > least_db
    assert size_bytes(model) / size_bytes(found) > smaller


@pytest.mark.parametrize("head", TIED)
def test_a_product_and_a_table_of_one_matrix_share_its_integers(head: str) -> None:
    model = language_model(head)
    found, step = made(model)
    numbers = [name for name, value in found.graph.initializers.items() if value.const_value.size > 2 * ROWS]
    assert len(numbers) == 1
    assert "the integers of the product with the same matrix" in next(
        e.action for e in step.edits if e.target == "look_up"
    )
    assert "Transpose" not in types(found)
    alone, _ = made(language_model("other"))
    assert size_bytes(found) < 0.6 * size_bytes(alone)
    assert all(numerics.sqnr_db(outputs(model)[0], mine) > 14 for mine in outputs(found))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_shared_integers_are_those_that_the_table_has_alone(bits: int) -> None:
    spec = f"quantize-weights{{bits={bits},method=rtn,tables=true}}"
    shared, alone = made(language_model("copy"), spec)[0], made(language_model("other"), spec)[0]
    rows = []
    for model in (shared, alone):
        node = next(n for n in model.graph if n.op_type == "GatherBlockQuantized")
        model.graph.outputs[:] = [node.outputs[0]]
        node.outputs[0].type, node.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), None
        rows.append(outputs(model)[1])
    np.testing.assert_array_equal(*rows)


def test_a_shared_matrix_is_rounded_for_the_inputs_of_the_product() -> None:
    samples = np.random.default_rng(0).integers(0, ROWS, (64, 4))
    (shared, _), (product, _) = (
        made(language_model("gemm"), f"quantize-weights{{bits=4,method=gptq{more}}}", samples)
        for more in (",tables=true", "")
    )
    stored = [next(n for n in m.graph if n.op_type == "MatMulNBits").inputs[1].const_value for m in (shared, product)]
    np.testing.assert_array_equal(stored[0].numpy(), stored[1].numpy())


def test_tables_stay_unless_they_are_asked_for() -> None:
    found, step = made(language_model("other"), "quantize-weights{bits=4,method=rtn}")
    assert types(found) == ["Gather", "Tanh", "MatMulNBits"]
    assert [edit.target for edit in step.edits] == ["head"]


def test_rows_whose_width_is_no_multiple_of_the_block_take_a_smaller_one_or_stay() -> None:
    found, _ = made(language_model("other", 48))
    assert found.graph[0].attributes["block_size"].as_int() == 16
    assert numerics.sqnr_db(outputs(language_model("other", 48))[0], outputs(found)[1]) > 14
    # The product pads its last block, which rows cannot.
    assert types(made(language_model("copy", 48))[0]) == ["GatherBlockQuantized", "Tanh", "MatMulNBits"]
    _, step = made(language_model("other", 40))
    assert {s.target: s.reason for s in step.skipped} == {"look_up": "its rows are no multiple of 16 wide"}


@pytest.mark.parametrize("excluded", ["look_up", "head"])
def test_a_table_stays_with_the_product_that_reads_it_in_float(excluded: str) -> None:
    found, step = made(language_model("gemm"), SPEC.replace("}", f",exclude=[{excluded}]}}"))
    assert "GatherBlockQuantized" not in types(found)
    assert {s.target: s.reason for s in step.skipped}["look_up"] == "excluded by name"


def test_a_table_whose_columns_are_looked_up_stays() -> None:
    net = builders.Net(2)
    net.node("Gather", net.weight(64, ROWS), "ids", axis=1, name="columns", out="y")
    shape = [64, "batch", "time"]
    model = net.model([("ids", builders.I64, ["batch", "time"])], [("y", builders.F, shape)], opset=17)
    _, step = made(model)
    assert [s.reason for s in step.skipped] == ["its table is not read by rows alone"]


def test_positions_of_computed_values_are_no_table_to_speak_of() -> None:
    net = builders.Net(2)
    size = net.node("Gather", net.node("Shape", "ids"), net.const(np.int64(1)), axis=0, name="size")
    rows = net.node("Gather", net.weight(ROWS, WIDTH), "ids", name="look_up")
    net.node("Mul", rows, net.node("Cast", size, to=builders.F), out="y")
    shape = ["batch", "time", WIDTH]
    model = net.model([("ids", builders.I64, ["batch", "time"])], [("y", builders.F, shape)], opset=17)
    _, step = made(model)
    assert [edit.target for edit in step.edits] == ["look_up"]
    assert not step.skipped


@pytest.mark.parametrize(
    "options", ["form=standard,tables=true", "form=dequantize,tables=true", "form=standard,bits=2"]
)
def test_tables_and_two_bits_are_for_the_runtimes_own_operators(options: str) -> None:
    with pytest.raises(UsageError, match="ONX112"):
        parse(f"quantize-weights{{{options}}}")


def test_bits_that_the_runtime_lacks_are_named() -> None:
    assert not product_missing(2, 32)
    assert not table_missing(4, 16)
    assert product_missing(3, 32) == "the installed ONNX Runtime has no MatMulNBits of 3 bits in blocks of 32"
    assert table_missing(3, 32) == "the installed ONNX Runtime has no GatherBlockQuantized of 3 bits in blocks of 32"


def test_a_kernel_that_gives_wrong_numbers_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Blocks.floats
    monkeypatch.setattr(Blocks, "floats", lambda blocks: right(blocks)[::-1])
    model = language_model("other")
    done = Pipeline((QuantizeWeights(bits=2, tables=True),)).run(model, Context(TARGET))
    reason = "MatMulNBits of 2 bits gives wrong numbers in the installed ONNX Runtime"
    assert [(s.target, s.reason) for s in done.steps[0].skipped] == [("graph", reason)]
    _, step = made(model)
    assert [s.reason for s in step.skipped] == [reason.replace("MatMulNBits of 2", "GatherBlockQuantized of 4")]
