"""Edges between layers in INT8 and in float, of graphs written by hand."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from onnxopt.measure.runtime.session import Runtime
from onnxopt.quantization.placement import edges
from onnxopt.quantization.placement.edges import edges_of, heads_of
from onnxopt.solver import ALWAYS_FLOAT, Edge


def chain(more_nodes: str = "", more_outputs: str = "") -> ir.Model:
    """Return x -> Gemm a -> Relu r -> Gemm b -> y."""
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        main (float[1, 4] x) => (float[1, 2] y{more_outputs})
        <float[4, 8] w = {{{", ".join(["0.5"] * 32)}}}, float[8, 2] v = {{{", ".join(["0.5"] * 16)}}}>
        {{
            [a] inner = Gemm(x, w)
            [r] active = Relu(inner)
            [b] y = Gemm(active, v)
            {more_nodes}
        }}
    """
    return ir.from_proto(onnx.parser.parse_model(text))


def found(model: ir.Model, monkeypatch: pytest.MonkeyPatch) -> set[Edge]:
    """Return the edges where a conversion costs 1 ms per element."""
    monkeypatch.setattr(edges, "conversion_ms", lambda *_: (0.0, 1.0))
    feeds = {"x": np.zeros((1, 4), np.float32)}
    return set(edges_of(model, heads_of(model, ["a", "b"]), feeds, Runtime()))


def test_an_activation_that_only_the_next_node_reads_runs_with_its_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(chain(), monkeypatch) == {
        Edge(ALWAYS_FLOAT, ("a",), 4.0),
        Edge("a", ("b",), 8.0),
        Edge("b", (ALWAYS_FLOAT,), 2.0),
    }


def test_an_activation_whose_input_has_another_reader_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain("[t] other = Tanh(inner)", ", float[1, 8] other")
    assert heads_of(model, ["a", "b"]) == {"a": "a", "b": "b"}
    assert Edge(ALWAYS_FLOAT, ("b",), 8.0) in found(model, monkeypatch)


def test_an_activation_whose_input_is_an_output_of_the_model_runs_by_itself() -> None:
    assert heads_of(chain(more_outputs=", float[1, 8] inner"), ["a", "b"]) == {"a": "a", "b": "b"}


def test_the_input_of_the_model_is_converted_for_its_first_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Edge(ALWAYS_FLOAT, ("a",), 4.0) in found(chain(), monkeypatch)
