"""Odd forms that the standard or the runtime allows are put into one; models that break a rule are refused in words."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt import model_file
from onnxopt.errors import DataError, ModelError
from onnxopt.graph.check import check_structure
from onnxopt.model_file import normal

X = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)


def small() -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 4]) for n in "xy")
    nodes = [helper.make_node("Mul", ["x", "w"], ["a"], "mul"), helper.make_node("LeakyRelu", ["a"], ["y"], alpha=0.1)]
    w = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], [w]), opset_imports=opsets, ir_version=9)


def expected() -> np.ndarray:
    return run_bytes(small().SerializeToString())


def run_bytes(data: bytes) -> np.ndarray:
    return np.asarray(ort.InferenceSession(data).run(None, {"x": X})[0])


def unsorted(model: onnx.ModelProto) -> None:
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def sparse(model: onnx.ModelProto, indices: np.ndarray | None = None, dims: tuple[int, ...] = (4,)) -> None:
    del model.graph.initializer[:]
    found = np.array([1, 2, 3], np.int64) if indices is None else indices
    values = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "w")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(found), list(dims)))


def sparse_by_coordinates(model: onnx.ModelProto) -> None:
    sparse(model, np.array([[1], [2], [3]], np.int64))


def comment(model: onnx.ModelProto) -> None:
    model.graph.node[0].doc_string = "comment"


def unsorted_through_a_branch(model: onnx.ModelProto) -> None:
    """The If stands first and takes `a` from around it, inside its branches alone."""
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, [2, 4])
    branch = helper.make_graph([helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.1)], "b", [], [out])
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    mul = onnx.NodeProto.FromString(model.graph.node[0].SerializeToString())
    del model.graph.node[:]
    model.graph.node.extend([chosen, mul])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))


@pytest.mark.parametrize(
    "change", [unsorted, sparse, sparse_by_coordinates, comment, unsorted_through_a_branch], ids=lambda f: f.__name__
)
def test_an_odd_form_is_read_and_computes_the_same(tmp_path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = small()
    change(model)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString().replace(b"comment", b"comm\xff\xfet"))

    loaded = model_file.load(path)
    check_structure(loaded)

    np.testing.assert_array_equal(run_bytes(model_file.to_bytes(loaded)), expected())


def test_nodes_in_order_keep_their_order() -> None:
    model = small()
    model.graph.node.insert(0, helper.make_node("Identity", ["x"], ["unused"], "first"))
    before = [node.op_type for node in model.graph.node]

    normal.normalize(model, "m")

    assert [node.op_type for node in model.graph.node] == before


def circle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def huge_sparse(model: onnx.ModelProto) -> None:
    sparse(model, dims=(1 << 40,))


def sparse_outside(model: onnx.ModelProto) -> None:
    sparse(model, np.array([1, 2, 9], np.int64))


def lying_dims(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 10**9


def negative_dims(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -4


def no_tensor_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 0


def unknown_tensor_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


def no_input_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].ClearField("type")


def no_attribute_value(model: onnx.ModelProto) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(4, np.float32)))
    constant.attribute[0].ClearField("t")
    model.graph.node.insert(0, constant)


def no_attribute_type(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute[0].type = onnx.AttributeProto.UNDEFINED


def no_import(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.acme"


def given_twice(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Neg", ["x"], ["a"]))


def weight_twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def no_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = ""


def too_few_inputs(model: onnx.ModelProto) -> None:
    model.graph.node[0].input.pop()


def no_needed_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Cast"
    del model.graph.node[1].attribute[:]


def attribute_of_another_kind(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute[0].CopyFrom(helper.make_attribute("alpha", 1))


def outer_value_from_a_branch(model: onnx.ModelProto) -> None:
    unsorted_through_a_branch(model)
    model.graph.node[0].attribute[0].g.output[0].name = "x"


def absurd_version(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("local", "F", ["a"], ["b"], [], [helper.make_opsetid("", 1 << 40)]))
    model.functions[0].node.append(helper.make_node("Relu", ["a"], ["b"]))


REFUSED = {
    outer_value_from_a_branch: "the inner graph 'b' gives 'x', which nothing inside it makes",
    absurd_version: "the operator set '' is imported in version 1099511627776",
    too_few_inputs: "node 'mul' (Mul) has 1 inputs, its operator 2 to 2",
    no_needed_attribute: "has no attribute 'to', which its operator needs",
    attribute_of_another_kind: "the attribute 'alpha' of node (LeakyRelu) that gives 'y' is of another kind than FLOAT",
    circle: "depends on its own output",
    huge_sparse: "more than 256 MiB when dense",
    sparse_outside: "the sparse weight 'w' is damaged",
    lying_dims: "the tensor 'w' states 4000000000 bytes, but holds 16",
    negative_dims: "the tensor 'w' has the shape [-4]",
    no_tensor_type: "the tensor 'w' has no type that ONNX knows (0)",
    unknown_tensor_type: "the tensor 'w' has no type that ONNX knows (99)",
    no_input_type: "the input 'x' has no type",
    no_attribute_value: "the attribute 'value' of node (Constant) that gives 'c' has no value",
    no_attribute_type: "the attribute 'alpha' of node (LeakyRelu) that gives 'y' has no type",
    no_import: "'mul' (Mul) is of the operator set 'com.acme', which the model does not import",
    given_twice: "'a' is given twice",
    weight_twice: "the weight 'w' is given twice",
    no_operator: "has no operator",
}


@pytest.mark.parametrize(("change", "why"), REFUSED.items(), ids=[f.__name__ for f in REFUSED])
def test_a_broken_rule_is_refused_by_name(tmp_path: Path, change: Callable[[onnx.ModelProto], None], why: str) -> None:
    model = small()
    change(model)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())

    with pytest.raises(ModelError) as refused:
        model_file.load(path)

    assert refused.value.code == "ONX305"
    assert why in (refused.value.why or "")
    assert refused.value.where == str(path)
    assert refused.value.hint


def test_the_operators_of_the_runtime_need_no_import() -> None:
    model = small()
    model.graph.node[1].CopyFrom(helper.make_node("Gelu", ["a"], ["y"], domain="com.microsoft"))

    loaded = model_file.as_graph(model)

    assert loaded.opset_imports["com.microsoft"] == 1


def test_a_comment_on_the_model_itself_may_be_no_text(tmp_path: Path) -> None:
    model = small()
    model.doc_string = "comment"
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString().replace(b"comment", b"comm\xff\xfet"))

    assert model_file.to_bytes(model_file.load(path))


def test_one_operator_set_may_be_imported_by_both_its_names() -> None:
    model = small()
    model.opset_import.add(domain="ai.onnx", version=17)

    assert model_file.as_graph(model)


def test_a_function_whose_output_nothing_gives_is_refused() -> None:
    model = small()
    node = helper.make_node("Relu", ["a"], ["b"])
    model.functions.append(helper.make_function("local", "F", ["a"], ["c"], [node], [helper.make_opsetid("", 17)]))

    with pytest.raises(ModelError) as refused:
        model_file.as_graph(model)

    assert refused.value.why == "in the function 'F', nothing gives 'c', which is read or is an output"


def test_an_output_whose_type_states_nothing_is_read() -> None:
    model = small()
    model.graph.output[0].type.tensor_type.elem_type = 0

    assert model_file.as_graph(model).graph.outputs[0].dtype is None


def test_no_input_of_absurd_size_is_made_up() -> None:
    model = small()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 40

    with pytest.raises(DataError) as refused:
        model_file.probe_feeds(model_file.signature_of(model_file.as_graph(model)))

    assert refused.value.code == "ONX203"
