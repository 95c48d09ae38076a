"""The branches of a merged decoder are models of their own, and can be put back."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from onnxopt.graph.branches import Branches, branches_of, merged, move_into_branches
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import check, from_proto, opset_of, signature_of, size_bytes, upgrade_opset
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import detect
from tests.builders import F, Net
from tests.tasks.parts.merged import merged as decoder
from tests.tasks.parts.seq2seq import WIDTH

SWITCH = "use_cache_branch"


def feeds(flag: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {
        "input_ids": np.array([[3, 4]]),
        "encoder_attention_mask": np.ones((1, 5), np.int64),
        "encoder_hidden_states": rng.standard_normal((1, 5, WIDTH)).astype(np.float32),
        SWITCH: np.array([flag]),
    }
    names = [f"past_key_values.0.{kind}.{role}" for kind in ("decoder", "encoder") for role in ("key", "value")]
    return made | {name: rng.standard_normal((1, 5, WIDTH)).astype(np.float32) for name in names}


def outputs(model: ir.Model, flag: bool) -> dict[str, np.ndarray]:
    check(model)
    names = [spec.name for spec in signature_of(model).outputs]
    found = Session(model, Runtime()).run(feeds(flag), names)
    return {name: np.asarray(array) for name, array in zip(names, found, strict=True)}


def branches(model: ir.Model) -> Branches:
    found = branches_of(model, SWITCH)
    assert found is not None
    return found


@pytest.mark.parametrize("flag", [True, False])
def test_each_branch_is_a_model_with_the_same_inputs_and_outputs(flag: bool) -> None:
    model, (then, other) = decoder(), branches(decoder())
    one = then if flag else other
    assert signature_of(one).inputs == signature_of(model).inputs
    for name, array in outputs(model, flag).items():
        np.testing.assert_array_equal(outputs(one, flag)[name], array)
        np.testing.assert_array_equal(outputs(merged(model, Branches(then, other)), flag)[name], array)
    # Both models are whole: nothing of the other branch is changed.
    assert size_bytes(merged(model, Branches(then, other))) < 1.1 * size_bytes(model)
    assert branches_of(model, SWITCH) is not None


def giving_a_weight() -> ir.Model:
    """Return a merged decoder of which a branch gives a weight of its own."""
    model = decoder()
    (around,) = model.graph
    body = around.attributes["then_branch"].as_graph()
    empty = ir.Value(name="empty", const_value=ir.tensor(np.zeros((0, 5, WIDTH), np.float32), name="empty"))
    empty.type, empty.shape = body.outputs[-1].type, ir.Shape((0, 5, WIDTH))
    body.register_initializer(empty)
    body.outputs[-1] = empty
    return model


@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_may_give_a_weight_of_its_own(flag: bool) -> None:
    model = giving_a_weight()
    one = branches(model)[0 if flag else 1]
    for name, array in outputs(model, flag).items():
        np.testing.assert_array_equal(outputs(one, flag)[name], array)


@pytest.mark.parametrize("flag", [True, False])
def test_a_weight_that_a_branch_gives_goes_back_once_constants_are_folded(flag: bool) -> None:
    model = giving_a_weight()
    simpler = Branches(*(Pipeline((Simplify(),)).run(one, Context(detect())).model for one in branches(model)))
    assert any(value.producer() is None for value in simpler.then.graph.outputs)
    for name, array in outputs(model, flag).items():
        np.testing.assert_allclose(outputs(merged(model, simpler), flag)[name], array, atol=1e-6)


def large(model: ir.Model) -> list[bytes]:
    """Return the numbers of the matrices of a model."""
    tensors = (v.const_value for graph in model.graphs() for v in graph.initializers.values())
    return [tensor.tobytes() for tensor in tensors if tensor is not None and tensor.size > 500]


def test_branches_in_another_form_share_their_weights_again() -> None:
    context, model = Context(detect()), decoder()
    dynamic, few = QuantizeDynamic(), QuantizeWeights(bits=4, method="hqq")
    for spec in (dynamic, few):
        then, other = (Pipeline((spec,)).run(one, context).model for one in branches(model))
        whole = merged(model, Branches(then, other))
        assert len(large(whole)) == len(set(large(whole)))
        assert set(large(whole)) == {*large(then), *large(other)}
        for flag, one in ((True, then), (False, other)):
            for name, array in outputs(one, flag).items():
                np.testing.assert_allclose(outputs(whole, flag)[name], array, atol=1e-6)
    mixed = merged(model, Branches(Pipeline((dynamic,)).run(branches(model).then, context).model, other))
    for name, array in outputs(other, False).items():
        np.testing.assert_allclose(outputs(mixed, False)[name], array, atol=1e-6)


def test_branches_of_different_opsets_get_the_newer_one() -> None:
    model = decoder()
    then, other = branches(model)
    whole = merged(model, Branches(upgrade_opset(then, 18), other))
    assert opset_of(whole) == 18
    np.testing.assert_allclose(outputs(whole, False)["logits"], outputs(model, False)["logits"], atol=1e-6)


def small(*, passed_on: bool = False, twice: bool = False, computed: bool = False) -> ir.Model:
    """Return an If whose branch gives an input, or one value twice, or which a computed value decides."""
    net, parts = Net(0), []
    for seed in (1, 2):
        inner = Net(seed, f"b{seed}_")
        y = inner.node("MatMul", "x", inner.weight(4, 4, name=f"own{seed}"))
        ends = [y, "x"] if passed_on and seed == 1 else [y, y] if twice else [y, inner.node("Relu", y)]
        if "x" in ends:
            ends[1] = inner.node("Identity", "x")
        results = [helper.make_tensor_value_info(name, F, ["n", 4]) for name in ends]
        parts.append(helper.make_graph(inner.nodes, f"part{seed}", [], results, inner.weights))
    switch = net.node("Not", "flag") if computed else "flag"
    net.nodes.append(helper.make_node("If", [switch], ["y", "z"], then_branch=parts[0], else_branch=parts[1]))
    return net.model([("x", F, ["n", 4]), ("flag", 9, [])], [("y", F, ["n", 4]), ("z", F, ["n", 4])], opset=13)


@pytest.mark.parametrize("options", [{"passed_on": True}, {}])
@pytest.mark.parametrize("flag", [True, False])
def test_weights_and_results_of_a_branch_are_kept(options: dict[str, bool], flag: bool) -> None:
    model = small(**options)
    found = branches_of(model, "flag")
    assert found is not None
    x = {"x": np.random.default_rng(3).standard_normal((2, 4)).astype(np.float32), "flag": np.array(flag)}
    for other in (found.then if flag else found.other, merged(model, found)):
        for expected, array in zip(
            *(Session(one, Runtime()).run(x, ["y", "z"]) for one in (model, other)), strict=True
        ):
            np.testing.assert_array_equal(array, expected)


def test_other_models_have_no_branches() -> None:
    assert branches_of(small(computed=True), "flag") is None
    assert branches_of(small(), "x") is None
    assert branches_of(branches(decoder()).then, SWITCH) is None


@pytest.mark.parametrize("flag", [True, False])
def test_integers_that_one_branch_reads_are_made_in_it(flag: bool) -> None:
    made = Pipeline((QuantizeDynamic(),)).run(decoder(), Context(detect())).model
    assert [node.op_type for node in made.graph] == ["If"]
    (around,) = made.graph
    first = around.attributes["else_branch"].as_graph()
    assert any("encoder_hidden_states" in {value.name for value in node.inputs} for node in first)
    for name, array in outputs(decoder(), flag).items():
        np.testing.assert_allclose(outputs(made, flag)[name], array, atol=0.1)


def test_nodes_that_both_branches_or_an_output_read_stay() -> None:
    def body(*nodes: object) -> object:
        return helper.make_graph(list(nodes), "body", [], [helper.make_tensor_value_info("y", F, None)])

    twice = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["x"], ["b"])]
    twice += [helper.make_node("Abs", ["x"], ["c"]), helper.make_node("Relu", ["x"], ["kept"])]
    then = body(helper.make_node("Add", ["a", "b"], ["t"]), helper.make_node("Add", ["t", "kept"], ["y"]))
    other = body(helper.make_node("Add", ["a", "c"], ["y"]))
    around = helper.make_node("If", ["flag"], ["out"], then_branch=then, else_branch=other)
    inputs = [helper.make_tensor_value_info("x", F, [2]), helper.make_tensor_value_info("flag", 9, [])]
    ends = [helper.make_tensor_value_info(name, F, None) for name in ("out", "kept")]
    graph = helper.make_graph([*twice, around], "g", inputs, ends)
    model = from_proto(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))
    x = np.array([-1.0, 2.0], np.float32)
    before = [Session(model, Runtime()).run({"x": x, "flag": np.array(flag)}) for flag in (True, False)]
    move_into_branches(model, ("Relu", "Neg", "Abs"))
    check(model)
    assert [node.op_type for node in model.graph] == ["Relu", "Relu", "If"]
    for flag, expected in zip((True, False), before, strict=True):
        for one, array in zip(Session(model, Runtime()).run({"x": x, "flag": np.array(flag)}), expected, strict=True):
            np.testing.assert_array_equal(one, array)
