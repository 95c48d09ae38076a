"""What counts as a block, what goes with it, and what is none."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from onnxopt.graph.blocks.cut import gate_names, gated, without_blocks
from onnxopt.graph.blocks.find import Block, Fixed, blocks_of
from onnxopt.graph.edit import name_nodes
from onnxopt.graph.layers import anatomy_of
from onnxopt.model_file import check, signature_of
from tests import builders, numerics
from tests.builders import CLASSES, IMAGE, ROWS, TOKENS, F, Net


def found(model: ir.Model, layers: bool = False) -> list[Block]:
    return blocks_of(model, layers=layers)[0]


def fixed(model: ir.Model, layers: bool = False) -> list[Fixed]:
    return blocks_of(model, layers=layers)[1]


def dense(net: Net, x: str, out: str | None = None, name: str | None = None, width: int = 8) -> str:
    named = {"name": name} if name else {}
    return str(net.node("MatMul", x, net.weight(8, width), out=out, **named))


def rows(net: Net, last: str, opset: int = 13) -> ir.Model:
    net.node("MatMul", last, net.weight(8, 4), out="y", name="head")
    return net.model([ROWS], [CLASSES], opset=opset)


def same_as_switched_off(model: ir.Model, blocks: list[Block], batch: int = 2) -> ir.Model:
    """Check that removing blocks gives what zeros in their place give, and return the smaller model."""
    smaller = without_blocks(model, blocks)
    check(smaller)
    assert signature_of(smaller) == signature_of(model)
    feeds = builders.feeds_of(model, batch=batch)
    off = {name: np.zeros((), b.dtype.numpy()) for name, b in zip(gate_names(blocks), blocks, strict=True)}
    on = {name: np.ones_like(zero) for name, zero in off.items()}
    whole = gated(model, blocks)
    check(whole)
    assert numerics.largest_difference(builders.run(model, feeds), builders.run(whole, {**feeds, **on})) == 0
    for optimized in (False, True):
        expected = builders.run(whole, {**feeds, **off}, optimized)
        result = builders.run(smaller, feeds, optimized)
        assert numerics.largest_difference(expected, result) <= numerics.EXACT_RELATIVE
    closed = builders.run(gated(model, blocks, closed=True), feeds)
    assert numerics.largest_difference(closed, builders.run(smaller, feeds)) <= numerics.EXACT_RELATIVE
    return smaller


@pytest.mark.parametrize("name", builders.BUILDERS)
@pytest.mark.parametrize("layers", [False, True])
def test_every_block_of_every_model_can_be_removed_alone_and_with_all_others(name: str, layers: bool) -> None:
    model = builders.BUILDERS[name]()
    name_nodes(model)
    blocks = found(model, layers)
    for choice in [*([b] for b in blocks), blocks]:
        smaller = same_as_switched_off(model, choice, 1 if name in builders.RUNS_AT_ONE_ONLY else 2)
        gone = {n for b in choice for n in b.nodes}
        assert gone.isdisjoint(n.name for n in smaller.graph)
        saved = anatomy_of(model).parameters - anatomy_of(smaller).parameters
        assert saved >= max((b.parameters for b in choice), default=0)


def test_a_residual_block_is_all_that_only_the_branch_needs() -> None:
    (block,) = found(builders.BUILDERS["residual_cnn"]())
    assert block.nodes == ("Conv_3", "BatchNormalization_4", "Relu_5", "Conv_6", "BatchNormalization_7")
    assert block.layers == ("Conv_3", "Conv_6")
    assert block.parameters == 8 * 8 * 9 * 2 + 8 + 2 * 4 * 8
    assert (block.kind, block.name) == ("residual block", "Add_8")


@pytest.mark.parametrize("name", ["transformer_13", "transformer_14", "transformer_17"])
def test_attention_and_perceptron_are_blocks_of_their_own(name: str) -> None:
    attention, perceptron = found(builders.BUILDERS[name]())
    assert len(attention.layers) == 4
    assert len(perceptron.layers) == 2
    assert not attention.holds(perceptron)
    assert not perceptron.holds(attention)


def test_norms_scales_and_dropout_on_the_branch_belong_to_it() -> None:
    net = Net(1)
    normed = net.node("LayerNormalization", "x", net.weight(8), net.weight(8), axis=-1)
    branch = net.node("Mul", net.node("Dropout", dense(net, normed)), net.weight(8))
    model = rows(net, net.node("Add", "x", branch), 17)
    (block,) = found(model)
    assert len(block.nodes) == 4
    assert block.parameters == 8 * 8 + 8 + 8 + 8
    same_as_switched_off(model, [block])


def test_a_skip_may_pass_transposes_and_identities() -> None:
    net = Net(2)
    start = dense(net, "x")
    turned = net.node("Transpose", net.node("Identity", start), perm=[0, 2, 1])
    branch = net.node("Transpose", dense(net, start), perm=[0, 2, 1])
    total = net.node("Transpose", net.node("Add", turned, branch), perm=[0, 2, 1])
    net.node("MatMul", total, net.weight(8, 4), out="y")
    model = net.model([TOKENS], [("y", F, ["batch", "time", 4])], opset=13)
    (block,) = found(model)
    assert len(block.layers) == 1
    same_as_switched_off(model, [block])


def test_a_block_in_a_block_goes_with_it() -> None:
    net = Net(3)
    lower = dense(net, "x", name="lower")
    inner = net.node("Add", lower, dense(net, lower, name="inner"), name="inner_add")
    model = rows(net, net.node("Add", "x", inner, name="outer_add"))
    blocks = {b.name: b for b in found(model)}
    assert sorted(blocks) == ["inner", "outer_add"]
    assert blocks["outer_add"].holds(blocks["inner"])
    assert not blocks["inner"].holds(blocks["outer_add"])
    same_as_switched_off(model, list(blocks.values()))


def test_parallel_branches_are_blocks_in_whatever_order_they_are_added() -> None:
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        for chained in (False, True):
            net = Net(4)
            start = dense(net, "x")
            normed = net.node("LayerNormalization", start, net.weight(8), net.weight(8), axis=-1)
            terms = [start, dense(net, normed, name="left"), dense(net, normed, name="right")]
            terms = [terms[i] for i in order]
            total = net.node("Add", net.node("Add", *terms[:2]), terms[2]) if chained else net.node("Sum", *terms)
            model = rows(net, total, 17)
            every = found(model)
            blocks = [b for b in every if len(b.layers) == 1]
            assert sorted(b.name for b in blocks) == ["left", "right"]
            assert len(every) == (3 if chained and order == [1, 2, 0] else 2), "both together are a block too"
            assert all("LayerNormalization_1" not in b.nodes for b in blocks), "the other branch needs it"
            for choice in ([blocks[0]], [blocks[1]], blocks, blocks[::-1], every, every[::-1]):
                same_as_switched_off(model, choice)


def test_a_downsampling_block_is_none() -> None:
    net = Net(5)
    stem = net.conv("x", 3, 8)
    branch = net.conv(net.node("Relu", net.conv(stem, 8, 16, strides=[2, 2])), 16, 16)
    total = net.node("Add", branch, net.conv(stem, 8, 16, k=1, strides=[2, 2]), name="join")
    net.pool_fc(net.node("Relu", total), 16, 4)
    model = net.model([IMAGE], [CLASSES], opset=13)
    assert not found(model)
    (reason,) = fixed(model)
    assert reason.target == "join"
    assert "both operands of this sum come from layers: neither is a skip" in reason.reason


def test_a_block_whose_inside_is_read_elsewhere_is_none() -> None:
    net = Net(6)
    inner = dense(net, "x", name="inner")
    total = net.node("Add", "x", dense(net, inner), name="join")
    net.node("Tanh", inner, out="other")
    net.node("MatMul", total, net.weight(8, 4), out="y")
    model = net.model([ROWS], [CLASSES, ("other", F, ["batch", 8])], opset=13)
    assert not found(model)
    assert fixed(model) == [Fixed("join", "inner inside it is needed elsewhere too")]


def test_an_inside_that_is_an_output_makes_no_block() -> None:
    net = Net(7)
    net.node("Add", "x", dense(net, "x", out="features", name="inner"), out="total")
    net.node("MatMul", "total", net.weight(8, 4), out="y")
    model = net.model([ROWS], [CLASSES, ("features", F, ["batch", 8])], opset=13)
    assert not found(model)
    assert fixed(model)[0].reason == "inner inside it is needed elsewhere too"


def test_a_sum_that_is_an_output_keeps_its_name() -> None:
    net = Net(8)
    start = dense(net, "x")
    net.node("Add", start, dense(net, start), out="y")
    model = net.model([ROWS], [("y", F, ["batch", 8])], opset=13)
    (block,) = found(model)
    smaller = same_as_switched_off(model, [block])
    assert [n.op_type for n in smaller.graph] == ["MatMul", "Identity"]


def test_biases_masks_activations_and_broadcasts_are_no_blocks() -> None:
    net = Net(9)
    hidden = dense(net, net.node("Add", "x", net.weight(8)))
    cubic = net.node("Mul", net.node("Mul", hidden, hidden), hidden)
    curved = net.node("Tanh", net.node("Add", hidden, cubic))
    mean = net.node("ReduceMean", curved, axes=[1], keepdims=1)
    wide = net.node("Add", mean, net.node("MatMul", mean, net.weight(1, 8)))
    model = rows(net, wide)
    assert blocks_of(model) == ([], [])


def test_the_shape_of_data_is_no_skip() -> None:
    net = Net(10)
    length = net.node("Gather", net.node("Shape", "x"), net.const(np.int64(1)), axis=0)
    steps = net.node("Range", net.const(np.int64(0)), length, net.const(np.int64(1)))
    positions = net.node("Gather", net.weight(16, 8), steps)
    net.node("MatMul", net.node("Add", positions, dense(net, "x")), net.weight(8, 4), out="y")
    model = net.model([TOKENS], [("y", F, ["batch", "time", 4])], opset=13)
    assert blocks_of(model) == ([], [])


def test_what_holds_every_layer_is_no_block() -> None:
    net = Net(11)
    net.node("Add", "x", dense(net, net.node("Relu", dense(net, "x"))), out="y", name="join")
    model = net.model([ROWS], [("y", F, ["batch", 8])], opset=13)
    assert not found(model)
    assert fixed(model) == [Fixed("join", "all layers of the model are in it")]


def test_shared_weights_stay_and_do_not_count() -> None:
    net = Net(12)
    shared, start = net.weight(8, 8, name="shared"), "x"
    for number in range(2):
        own = net.node("MatMul", start, net.weight(8, 8, name=f"own{number}"))
        start = net.node("Add", start, net.node("MatMul", own, shared))
    model = rows(net, start)
    blocks = found(model)
    assert [b.parameters for b in blocks] == [64, 64]
    smaller = same_as_switched_off(model, blocks[:1])
    assert {"shared", "own1"} <= set(smaller.graph.initializers)
    assert "own0" not in smaller.graph.initializers
    assert "shared" not in same_as_switched_off(model, blocks).graph.initializers


def test_listed_weights_go_from_the_inputs_too() -> None:
    net = Net(13)
    start = net.conv("x", 3, 8)
    net.pool_fc(net.node("Add", start, net.conv(start, 8, 8)), 8, 4)
    listed = [(w.name, w.data_type, list(w.dims)) for w in net.weights]
    model = net.model([IMAGE, *listed], [CLASSES], opset=8, ir_version=3)
    (block,) = found(model)
    smaller = same_as_switched_off(model, [block])
    assert len(smaller.graph.inputs) == len(model.graph.inputs) - 2


def test_a_second_activation_goes() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    smaller = same_as_switched_off(model, found(model))
    assert [n.op_type for n in smaller.graph].count("Relu") == 1


def test_names_are_the_scope_of_the_layers() -> None:
    net = Net(14)
    start = dense(net, "x", name="/stem/MatMul")
    for block in ("/layers.0", "/layers.10"):
        for part in ("attention", "mlp"):
            inner = dense(net, start, name=f"{block}/{part}/one/MatMul")
            start = net.node("Add", start, dense(net, inner, name=f"{block}/{part}/two/MatMul"))
    model = rows(net, start)
    expected = ["/layers.0/attention", "/layers.0/mlp", "/layers.10/attention", "/layers.10/mlp"]
    assert [b.name for b in found(model)] == expected


def test_a_layer_takes_its_norm_and_activation_along() -> None:
    net = Net(15)
    first = net.node("Relu", net.bn(net.conv("x", 3, 8), 8))
    second = net.node("Relu", net.bn(net.conv(first, 8, 8, bias=False), 8))
    net.pool_fc(net.node("Relu", net.conv(second, 8, 16)), 16, 4)
    model = net.model([IMAGE], [CLASSES], opset=13)
    assert not found(model)
    (block,) = found(model, layers=True)
    assert block.nodes == ("Conv_3", "BatchNormalization_4", "Relu_5")
    assert block.kind == "layer"
    assert {f.reason for f in fixed(model, layers=True)} == {"its output has another shape than its input"}


def test_an_output_activation_is_not_taken_along() -> None:
    net = Net(16)
    net.node("Softmax", dense(net, dense(net, "x"), name="last"), axis=-1, out="y")
    model = net.model([ROWS], [("y", F, ["batch", 8])], opset=13)
    smaller = same_as_switched_off(model, [found(model, layers=True)[-1]])
    assert [n.op_type for n in smaller.graph] == ["MatMul", "Softmax"]


def test_a_value_read_in_a_subgraph_is_needed() -> None:
    def branch(name: str, op: str) -> object:
        node = helper.make_node(op, ["inner"], [f"{name}_out"], name=name)
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}_out", F, ["batch", 8])])

    net = Net(17)
    dense(net, "x", out="inner", name="inside")
    total = net.node("Add", "x", dense(net, "inner"), name="join")
    test = net.node("Greater", net.node("ReduceSum", "x", keepdims=0), net.const(np.float32(0)))
    chosen = net.node("If", test, then_branch=branch("a", "Relu"), else_branch=branch("b", "Tanh"))
    model = rows(net, net.node("Mul", chosen, total))
    assert not found(model)
    assert fixed(model) == [Fixed("join", "inside inside it is needed elsewhere too")]


def test_control_flow_inside_a_block_goes_with_it() -> None:
    def branch(name: str, op: str) -> object:
        node = helper.make_node(op, ["inner"], [f"{name}_out"], name=name)
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}_out", F, ["batch", 8])])

    net = Net(18)
    dense(net, "x", out="inner", name="inside")
    test = net.node("Greater", net.node("ReduceSum", "inner", keepdims=0), net.const(np.float32(0)))
    chosen = net.node("If", test, then_branch=branch("a", "Relu"), else_branch=branch("b", "Tanh"))
    model = rows(net, net.node("Add", "x", chosen, name="join"))
    assert fixed(model) == [Fixed("join", "the shape of an operand cannot be inferred")]
    for node in model.graph:
        if node.name in ("join", "If_3"):
            node.outputs[0].shape, node.outputs[0].type = ir.Shape(["batch", 8]), ir.TensorType(ir.DataType.FLOAT)
    (block,) = found(model)
    smaller = same_as_switched_off(model, [block])
    assert [n.name for n in smaller.graph] == ["head"]
