import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from onnxopt.errors import ModelError
from onnxopt.measure.runtime.activations import Activations, ending_at
from onnxopt.model_file import to_bytes
from tests import builders

F = TensorProto.FLOAT


def chain() -> ir.Model:
    """Return x - Relu a - Neg b - Exp y, and a branch that nothing below b needs."""
    net = builders.Net(0)
    net.node("Relu", "x", out="a")
    net.node("Neg", "a", out="b")
    net.node("Exp", "b", out="y")
    net.node("Sin", "x", out="aside")
    return net.model([("x", F, ["n", 3])], [("y", F, ["n", 3]), ("aside", F, ["n", 3])])


def test_values_are_streamed_batch_by_batch_by_name():
    model = chain()
    samples = builders.samples_of(model, 5, 2)
    found = list(Activations(model, ["b", "x", "a", "a"]).of(samples))
    assert [arrays["b"].shape for arrays in found] == [(2, 3), (2, 3), (1, 3)]
    for arrays, feeds in zip(found, samples, strict=True):
        assert set(arrays) == {"a", "b", "x"}
        assert np.array_equal(arrays["x"], feeds["x"])
        assert np.array_equal(arrays["a"], np.maximum(feeds["x"], 0))
        assert np.array_equal(arrays["b"], -arrays["a"])


def test_values_one_by_one_are_the_same():
    model = chain()
    model.graph.initializers.add(ir.Value(name="w", const_value=ir.tensor(np.float32([1, 2]), name="w")))
    samples = builders.samples_of(model, 3, 2)
    values = Activations(model, ["b", "x", "a", "w"])
    found = [(name, array.copy()) for name, array in values.one_by_one(samples)]
    expected = [item for arrays in values.of(samples) for item in arrays.items()]
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(found, expected, strict=True))


def test_inputs_alone_need_no_run():
    model = chain()
    samples = builders.samples_of(model, 2, 1)
    found = list(Activations(model, ["x"]).of(samples))
    assert all(np.array_equal(a["x"], f["x"]) for a, f in zip(found, samples, strict=True))


def test_what_the_values_do_not_need_is_gone_and_the_model_stays():
    model = chain()
    before = to_bytes(model)
    assert [node.op_type for node in ending_at(model, ["b"]).graph] == ["Relu", "Neg"]
    assert [v.name for v in ending_at(model, ["b", "a", "b"]).graph.outputs] == ["b", "a"]
    assert to_bytes(model) == before


def test_a_value_without_a_type_gets_one():
    model = chain()
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.type = value.shape = None
    (arrays,) = Activations(model, ["b"]).of(builders.samples_of(model, 1, 1))
    assert arrays["b"].dtype == np.float32


def test_an_unknown_name_is_refused():
    with pytest.raises(ModelError, match="ONX304"):
        Activations(chain(), ["a", "nothing"])


@pytest.mark.parametrize("name", ["residual_cnn", "gemm_mlp", "transformer_17", "lstm", "if_branches"])
def test_every_value_of_the_graph_can_be_had(name):
    model = builders.BUILDERS[name]()
    names = [v.name for node in model.graph for v in node.outputs if v.name]
    samples = builders.samples_of(model, 2, 2)
    (arrays,) = Activations(model, names).of(samples)
    outputs = builders.run(model, dict(next(iter(samples))), optimized=True)
    assert set(names) == set(arrays)
    for value, expected in zip(model.graph.outputs, outputs, strict=True):
        assert np.allclose(arrays[value.name], expected, atol=1e-5)


def test_a_weight_is_a_value_that_no_run_computes():
    net = builders.Net(0)
    net.node("Add", "x", net.weight(3, name="w"), out="y")
    model = net.model([("x", F, ["n", 3])], [("y", F, ["n", 3])])
    expected = model.graph.initializers["w"].const_value.numpy()
    for names in (["w"], ["y", "w"]):
        for arrays in Activations(model, names).of(builders.samples_of(model, 2, 1)):
            assert list(arrays) == ["w", *names[:-1]]
            assert np.array_equal(arrays["w"], expected)
