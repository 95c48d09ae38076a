import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.graph.layers import anatomy_of
from onnxopt.model_file import from_proto


def _model(nodes, inputs, weights, outputs=("y",)):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()],
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


@pytest.mark.parametrize(
    ("op", "inputs", "weights", "attributes", "macs"),
    [
        ("Conv", {"x": ["n", 4, 10, 10]}, {"w": (8, 4, 3, 3)}, {}, 8 * 8 * 8 * 4 * 9),
        ("Conv", {"x": ["n", 4, 10, 10]}, {"w": (4, 1, 3, 3)}, {"group": 4}, 4 * 8 * 8 * 9),
        ("Conv", {"x": ["n", 4, 10]}, {"w": (8, 4, 3)}, {"strides": [2]}, 8 * 4 * 4 * 3),
        ("ConvTranspose", {"x": ["n", 4, 5, 5]}, {"w": (4, 8, 2, 2)}, {}, 4 * 25 * 8 * 4),
        ("Gemm", {"x": ["n", 6]}, {"w": (6, 5)}, {}, 30),
        ("Gemm", {"x": [6, 3]}, {"w": (6, 5)}, {"transA": 1}, 3 * 6 * 5),
        ("MatMul", {"x": ["n", 7, 6]}, {"w": (6, 5)}, {}, 7 * 30),
        ("MatMul", {"x": [6]}, {"w": (6,)}, {}, 6),
        ("Einsum", {"x": ["n", 7, 6]}, {"w": (6, 5)}, {"equation": "bij,jk->bik"}, 7 * 30),
        ("LSTM", {"x": [9, "n", 4]}, {"w": (1, 12, 4), "r": (1, 12, 3)}, {"hidden_size": 3}, 9 * 12 * 7),
        ("Relu", {"x": ["n", 4]}, {}, {}, 0),
    ],
)
def test_macs_at_batch_one(op, inputs, weights, attributes, macs):
    node = helper.make_node(op, [*inputs, *weights], ["y"], name="it", **attributes)
    anatomy = anatomy_of(_model([node], inputs, weights))
    assert anatomy.macs == macs
    assert anatomy.macs_unknown == 0


def test_macs_follow_the_stated_sizes():
    node = helper.make_node("Gemm", ["x", "w"], ["y"])
    model = _model([node], {"x": ["n", 6]}, {"w": (6, 5)})
    assert anatomy_of(model, {"n": 10}).macs == 300
    assert anatomy_of(model, {"n": 10}).input_shapes == {"x": (10, 6)}


def test_unknown_shapes_are_counted_and_not_guessed():
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    anatomy = anatomy_of(_model(nodes, {"x": [3, 4]}, {"w": (6, 5)}))
    assert anatomy.macs_unknown == 1
    assert anatomy.layers[0].macs is None


def test_large_weights_are_not_read_and_count_once():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="one"),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="two"),
    ]
    model = _model(nodes, {"x": [2, 64]}, {"w": (64, 64)})
    anatomy = anatomy_of(model)
    assert [(layer.name, layer.parameters) for layer in anatomy.layers] == [("one", 4096), ("two", 4096)]
    assert anatomy.parameters == 4096
    assert anatomy.macs == 2 * 2 * 4096
    assert model.graph.initializers["w"].const_value is not None
    assert len(model.graph.inputs) == 1


def test_weights_behind_other_nodes_are_found():
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("Identity", ["t"], ["i"]),
        helper.make_node("MatMul", ["x", "i"], ["y"], name="it"),
        helper.make_node("MatMul", ["x", "x"], ["z"], name="activations"),
    ]
    layers = anatomy_of(_model(nodes, {"x": [5, 5]}, {"w": (3, 5)}, ("y", "z"))).layers
    assert [(layer.name, layer.weight_shape, layer.parameters) for layer in layers] == [("it", (5, 3), 15)]


def test_a_quantized_model_has_layers_too(tmp_path):
    import onnxopt

    made = onnxopt.quantize("models/digits_resnet.onnx", data="digits:train", target="x86-vnni")
    layers = anatomy_of(made.optimized.model).layers
    kinds = [layer.op_type for layer in layers]
    assert kinds.count("Conv") == 7
    assert onnx.__version__


def test_free_sides_of_an_image_are_stated_and_no_size_is_below_zero():
    model = _model([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": ["n", 3, "h", "v"]}, {"w": (4, 3, 9, 9)})
    usual = anatomy_of(model)
    assert usual.input_shapes["x"] == (1, 3, 224, 224)
    assert usual.macs == 4 * 216 * 216 * 3 * 81
    least = anatomy_of(model, {"h": 4, "v": 4})
    assert (least.macs, least.macs_unknown) == (0, 1)
