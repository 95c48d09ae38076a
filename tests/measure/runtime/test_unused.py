"""An optimizer that is left out would have found nothing."""

import onnx
import onnx_ir as ir
import pytest

from onnxopt.measure.runtime.session import Runtime, session_and_graph
from onnxopt.measure.runtime.unused import LOOKED_FOR, PLAIN, without_work
from onnxopt.model_file import from_proto
from tests import builders


def graph_of(model: ir.Model, left_out: list[str]) -> list[str]:
    """Return the nodes of the runtime's graph without some optimizers."""
    options = (("optimization.disable_specified_optimizers", ";".join(left_out)),)
    _, data = session_and_graph(model, Runtime(options=options))
    nodes = onnx.load_model_from_string(data).graph.node
    return [onnx.helper.printable_node(node) for node in nodes]


def op_types_of(model: ir.Model) -> set[str]:
    return {node.op_type for node in model.graph.all_nodes()}


@pytest.mark.parametrize("name", builders.BUILDERS)
def test_the_graph_is_that_of_all_optimizers(name: str) -> None:
    model = builders.BUILDERS[name]()
    idle = without_work(op_types_of(model))
    assert bool(idle) == (op_types_of(model) <= PLAIN)
    assert graph_of(model, idle) == graph_of(model, [])


def fused(text: str, *names: str) -> bool:
    """Return whether some optimizers change the graph of a text."""
    model = from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'))
    assert not {*names} & {*without_work(op_types_of(model))}
    return graph_of(model, []) != graph_of(model, [*names])


def test_an_optimizer_that_has_work_is_kept() -> None:
    moved = """g (float[2, 3, 4] x, float[2, 3, 4] z) => (float[4, 3, 2] y) {
        a = Transpose <perm = [2, 1, 0]> (x) b = Relu(a) c = Transpose <perm = [2, 1, 0]> (b) d = Add(c, z)
        y = Transpose <perm = [2, 1, 0]> (d) }"""
    assert fused(moved, "TransposeOptimizer", "TransposeOptimizer_CPUExecutionProvider")
    scaled = """g (float[2, 3] x, float[3, 4] z) => (float[2, 4] y) <float half = {0.5}> {
        a = Mul(x, half) y = MatMul(a, z) }"""
    assert fused(scaled, "MatMulScaleFusion")
    quick = "g (float[2, 3] x) => (float[2, 3] y) <float f = {1.7}> { a = Mul(x, f) b = Sigmoid(a) y = Mul(x, b) }"
    assert fused(quick, "QuickGeluFusion")


def test_where_an_operator_may_become_others_nothing_is_left_out() -> None:
    assert set(without_work({"Relu", "MatMul"})) == set(LOOKED_FOR)
    assert without_work({"Relu", "Mish"}) == []
