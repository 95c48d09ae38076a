"""New names are free, and a graph is not walked once more for each of them."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.graph.factor_edit import replace_by_chain, replace_by_chains
from onnxopt.graph.names import free_name, names_in, value_names
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.model_file import to_bytes
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.equalization.bias_correction import give_biases
from onnxopt.reconstruction.layers import with_biases
from onnxopt.target import target_of
from tests import builders


def products(count: int, width: int = 8) -> ir.Model:
    """Return a chain of products, each with a name and a weight of its own."""
    net, x = builders.Net(0), "x"
    for number in range(count):
        x = net.node("MatMul", x, net.weight(width, width), **({"out": "y"} if number == count - 1 else {}))
    model = net.model([("x", builders.F, ["batch", width])], [("y", builders.F, ["batch", width])])
    for number, node in enumerate(model.graph):
        node.name = f"product_{number}"
    return model


def chains(model: ir.Model) -> dict[str, list[tuple[np.ndarray, tuple[int, ...]]]]:
    parts = [(np.ones((2, 8), np.float32), ()), (np.ones((8, 2), np.float32), ())]
    return {node.name or "": list(parts) for node in model.graph}


def shared(model: ir.Model) -> None:
    made = Pipeline(parse("share-weights{bits=2}")).run(model, Context(target_of("x86-vnni")))
    assert len(made.steps[0].edits) > 2


EDITS: dict[str, tuple[Callable[[ir.Model], object], int]] = {
    "biases": (with_biases, 8),
    "factors": (lambda model: replace_by_chains(model, chains(model)), 8),
    "palettes": (shared, 64),
}


@pytest.mark.parametrize("edit", EDITS)
def test_the_graph_is_walked_as_often_for_few_layers_as_for_many(edit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    walks, real = [0], ir.Graph.all_nodes

    def counted(graph: ir.Graph) -> Iterator[ir.Node]:
        walks[0] += 1
        return real(graph)

    change, width = EDITS[edit]
    few, many = products(3, width), products(9, width)
    monkeypatch.setattr(ir.Graph, "all_nodes", counted)
    change(few)
    first, walks[0] = walks[0], 0
    change(many)
    assert walks[0] == first


def test_many_chains_are_those_of_one_after_the_other() -> None:
    together, apart = products(4), products(4)
    wanted = chains(apart)
    replace_by_chains(together, wanted)
    for name, stages in wanted.items():
        replace_by_chain(apart, name, stages)
    assert to_bytes(together) == to_bytes(apart)


def test_names_are_those_of_values_and_nodes_and_are_given_once() -> None:
    model = builders.BUILDERS["nested_capture"]()
    inner = {value.name for node in model.graph.all_nodes() for value in node.outputs}
    assert {"x", *inner, *model.graph.initializers} <= value_names(model) <= names_in(model)
    taken = names_in(model)
    assert [free_name(taken, "x"), free_name(taken, "x"), free_name(taken, "new")] == ["x_", "x__", "new"]


class Asked(set[str | None]):
    """Names that count how often they are looked through."""

    times = 0

    def __contains__(self, name: object) -> bool:
        self.times += 1
        return super().__contains__(name)


def test_a_writer_does_not_try_all_its_names_again() -> None:
    model = products(1)
    writer = NodeWriter(model, "stem")
    writer._taken = asked = Asked({"stem_constant_1"})
    names = [writer.constant([number]).name for number in range(50)]
    assert names[:3] == ["stem_constant_0", "stem_constant_2", "stem_constant_3"]
    assert asked.times < 4 * len(names)


def test_a_list_of_names_is_not_searched_for_each_node() -> None:
    class Names(list[str]):
        def __contains__(self, name: object) -> bool:
            raise AssertionError("the list is searched")

    model = builders.BUILDERS["residual_cnn"]()
    without = [n for n in model.graph if n.op_type == "Conv" and len(n.inputs) == 2]
    give_biases(model, Names(node.name or "" for node in without))
    assert without
    assert all(len(node.inputs) == 3 for node in without)
