"""Control flow that shapes decide is unrolled; what data decides is refused."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper

from onnxopt.errors import ModelError
from onnxopt.model_file import to_bytes
from onnxopt.training.module.torch_model import TorchModel
from tests import builders, numerics
from tests.builders import I64, F, Net
from tests.training.modules import unsupported

value = helper.make_tensor_value_info


def graph(nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], name: str = "body") -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [value(*i) for i in inputs], [value(*o) for o in outputs])


def agree(model: Any, *batches: dict[str, np.ndarray]) -> TorchModel:
    module = TorchModel(model).eval()
    for feeds in batches:
        found = module({k: torch.from_numpy(v) for k, v in feeds.items()})
        expected = builders.run(to_bytes(model), feeds)
        assert numerics.largest_difference(expected, [t.detach().numpy() for t in found.values()]) <= (
            numerics.EXACT_RELATIVE
        )
    return module


def draw(*shape: int) -> np.ndarray:
    return np.random.RandomState(sum(shape)).standard_normal(shape).astype(np.float32)


def test_a_branch_is_chosen_by_the_shape() -> None:
    net = Net(1)
    net.weight(8, name="bias")
    rows = net.node("Gather", net.node("Shape", "x"), net.const(np.int64(0)))
    then = graph([helper.make_node("Add", ["x", "bias"], ["a"])], [], [("a", F, None)], "then")
    other = graph([helper.make_node("Neg", ["x"], ["b"])], [], [("b", F, None)], "other")
    test = net.node("Greater", rows, net.const(np.int64(2)))
    net.node("If", test, out="y", then_branch=then, else_branch=other)
    model = net.model([builders.ROWS], [("y", F, ["batch", 8])])
    module = agree(model, {"x": draw(2, 8)}, {"x": draw(3, 8)})
    assert [len(plan.steps) for plan in module._plans.values()] == [1, 1]
    assert [n for n, _ in module.named_weights()] == ["bias"]


def _loop_over_time(net: Net, turns: str, body_extra: list[onnx.NodeProto] | None = None) -> None:
    body = graph(
        [
            helper.make_node("Gather", ["x", "turn"], ["row"], axis=1),
            helper.make_node("MatMul", ["state", "w"], ["mixed"]),
            helper.make_node("Add", ["mixed", "row"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["next"]),
            helper.make_node("Identity", ["next"], ["seen"]),
            *(body_extra or [helper.make_node("Identity", ["go"], ["again"])]),
        ],
        [("turn", I64, []), ("go", TensorProto.BOOL, []), ("state", F, ["batch", 8])],
        [("again", TensorProto.BOOL, []), ("next", F, ["batch", 8]), ("seen", F, ["batch", 8])],
    )
    first = net.node("ReduceSum", "x", net.ints(1), keepdims=0)
    net.weight(8, 8, name="w")
    last, seen = net.node("Loop", turns, net.const(np.bool_(True)), first, outs=2, body=body)
    net.node("Add", last, net.node("ReduceSum", seen, net.ints(0), keepdims=0), out="y")


def test_a_loop_over_the_time_axis() -> None:
    net = Net(2)
    _loop_over_time(net, net.node("Gather", net.node("Shape", "x"), net.const(np.int64(1))))
    model = net.model([builders.TOKENS], [("y", F, ["batch", 8])])
    assert unsupported(model) == ()
    module = agree(model, {"x": draw(2, 5, 8)}, {"x": draw(2, 3, 8)}, {"x": draw(1, 5, 8)})
    module({"x": torch.from_numpy(draw(2, 5, 8))})["y"].sum().backward()
    assert all(float(w.grad.abs().max()) > 0 for _, w in module.named_weights())


def test_a_loop_whose_turns_are_data_is_refused() -> None:
    net = Net(3)
    _loop_over_time(net, net.node("Squeeze", net.node("Cast", net.node("ReduceMax", "x"), to=I64)))
    model = net.model([builders.TOKENS], [("y", F, ["batch", 8])])
    assert [op for _, op in unsupported(model)] == ["Loop"]
    with pytest.raises(ModelError, match=r"ONX309.*Loop"):
        TorchModel(model)


def test_a_loop_that_data_ends_is_refused_when_it_runs() -> None:
    net = Net(4)
    ends = [
        helper.make_node("ReduceMax", ["next"], ["most"], keepdims=0),
        helper.make_node("Less", ["most", "limit"], ["again"]),
    ]
    net.const(np.float32(0.5), "limit")
    _loop_over_time(net, net.const(np.int64(3)), ends)
    module = TorchModel(net.model([builders.TOKENS], [("y", F, ["batch", 8])]))
    with pytest.raises(ModelError, match=r"ONX309.*Loop.*depends on data"):
        module({"x": torch.ones(1, 4, 8)})


def test_a_loop_of_no_turns_keeps_its_state() -> None:
    net = Net(5)
    body = graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Neg", ["state"], ["next"])],
        [("turn", I64, []), ("go", TensorProto.BOOL, []), ("state", F, None)],
        [("again", TensorProto.BOOL, []), ("next", F, None)],
    )
    net.node("Loop", net.const(np.int64(0)), "", "x", out="y", body=body)
    agree(net.model([builders.ROWS], [("y", F, ["batch", 8])]), {"x": draw(2, 8)})


@pytest.mark.parametrize("backwards", [0, 1])
def test_a_scan(backwards: int) -> None:
    net = Net(6)
    body = graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["mixed"]),
            helper.make_node("Add", ["mixed", "row"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["next"]),
            helper.make_node("Neg", ["next"], ["seen"]),
        ],
        [("state", F, ["batch", 8]), ("row", F, ["batch", 8])],
        [("next", F, ["batch", 8]), ("seen", F, ["batch", 8])],
    )
    net.weight(8, 8, name="w")
    first = net.node("ReduceSum", "x", net.ints(1), keepdims=0)
    options = {"scan_input_axes": [1], "scan_input_directions": [backwards], "scan_output_directions": [backwards]}
    last, seen = net.node("Scan", first, "x", outs=2, body=body, num_scan_inputs=1, scan_output_axes=[1], **options)
    net.node("Add", net.node("Unsqueeze", last, net.ints(1)), seen, out="y")
    model = net.model([builders.TOKENS], [("y", F, ["batch", "time", 8])])
    agree(model, {"x": draw(2, 5, 8)}, {"x": draw(3, 2, 8)})


def test_the_gradient_passes_straight_through_rounding() -> None:
    net = Net(7)
    scale, zero = net.const(np.float32(0.1)), net.const(np.int8(0))
    rounded = net.node(
        "DequantizeLinear", net.node("QuantizeLinear", net.weight(8, name="w"), scale, zero), scale, zero
    )
    net.node("Mul", "x", rounded, out="y")
    model = net.model([builders.ROWS], [("y", F, ["batch", 8])])
    module = TorchModel(model)
    (weight,) = (w for _, w in module.named_weights())
    with torch.no_grad():
        weight[0] = 20.0  # beyond 127 steps of 0.1
    y = module({"x": torch.ones(1, 8)})["y"]
    y.sum().backward()
    assert weight.grad.tolist() == [0.0] + [1.0] * 7
    assert torch.equal(y.detach()[0], (weight.detach() / 0.1).round().clamp(-128, 127) * torch.tensor(0.1))


def test_shapes_that_follow_data_are_read_in_every_run() -> None:
    net = Net(8)
    chosen = net.node("NonZero", net.node("Greater", "x", net.const(np.float32(0))))
    picked = net.node("GatherND", "x", net.node("Transpose", chosen, perm=[1, 0]))
    count = net.node("Cast", net.node("Shape", picked), to=F)
    filler = net.node("ConstantOfShape", net.node("Shape", picked))
    mean = net.node("Div", net.node("ReduceSum", net.node("Add", picked, filler), keepdims=0), count)
    net.node("MatMul", mean, net.weight(1, 4), out="y")
    model = net.model([builders.ROWS], [("y", F, [4])])
    few = -np.ones((2, 8), np.float32)
    few[0, 3] = 2.0
    module = agree(model, {"x": draw(2, 8)}, {"x": few}, {"x": np.abs(draw(2, 8))})
    assert len(module._plans) == 1


def test_a_function_of_another_opset_is_named_and_not_a_bug() -> None:
    net = Net(1)
    net.node("Shift", "x", out="y", domain="local")
    model = net.model([builders.ROWS], [("y", F, ["batch", 8])])
    body = [helper.make_node("Relu", ["a"], ["b"])]
    proto = ir.to_proto(model)
    proto.functions.append(helper.make_function("local", "Shift", ["a"], ["b"], body, [helper.make_opsetid("", 7)]))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    with pytest.raises(ModelError, match="cannot be inlined") as caught:
        TorchModel(ir.from_proto(proto))
    assert caught.value.code == "ONX309"
