"""The structural check names what is wrong."""

import onnx_ir as ir
import pytest

from onnxopt.errors import ModelError
from onnxopt.graph.check import check_structure
from tests import builders


@pytest.mark.parametrize("make", builders.BUILDERS.values(), ids=builders.BUILDERS)
def test_every_builder_is_sound(make: object) -> None:
    assert callable(make)
    assert check_structure(make()) is None


def broken(model: ir.Model) -> str:
    with pytest.raises(ModelError, match="ONX305") as caught:
        check_structure(model)
    return caught.value.why


def test_a_value_that_nothing_gives() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    model.graph.node(2).replace_input_with(0, ir.Value(name="ghost"))
    assert broken(model) == "node 'Gemm_2' (Gemm) reads 'ghost', which no earlier node computes"


def test_a_node_before_what_it_reads() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    last = model.graph.node(-1)
    model.graph.remove(last)
    model.graph.insert_before(model.graph.node(0), last)
    assert "Gemm_6" in broken(model)


def test_a_name_given_twice() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    model.graph.node(1).outputs[0].name = model.graph.node(0).outputs[0].name
    assert broken(model).endswith("is computed twice")


def test_an_output_that_nothing_gives() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    model.graph.outputs.append(ir.Value(name="ghost"))
    assert broken(model) == "output 'ghost' is computed by no node"
