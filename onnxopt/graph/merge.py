"""Several operators merged into fewer: hard sigmoids, scalings, lookups, tables, GELUs and shortcuts."""

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir

from onnxopt.errors import ModelError
from onnxopt.graph.pointwise.gelu import OPSET, write_gelus
from onnxopt.graph.pointwise.one_hot import write_gathers
from onnxopt.graph.pointwise.tables import fold_into_tables
from onnxopt.graph.scales.fold import fold_scales
from onnxopt.graph.scales.hard_sigmoid import write_hard_sigmoids
from onnxopt.graph.shapes import with_types
from onnxopt.graph.shortcut_edit import write_shortcuts
from onnxopt.model_file import opset_of


def merge_operators(model: ir.Model) -> dict[str, list[str]]:
    """Merge operators of the main graph in place, and return the names of nodes by the kind of change.

    Before opset 20, GELUs stay.
    """
    done = {
        "hard sigmoids as one operator": write_hard_sigmoids(model),
        "scalings folded into layers": fold_scales(model),
        "products of one-hot vectors as lookups": write_gathers(model),
    }
    if any(node.op_type in ("Gather", "Pad", "Tanh") for node in model.graph):
        with _inferred_shapes(model):
            done["shortcuts as one convolution"] = write_shortcuts(model)
            done["operators folded into tables"] = fold_into_tables(model)
            done["GELUs as one operator"] = write_gelus(model) if opset_of(model) >= OPSET else []
    return {what: names for what, names in done.items() if names}


def has_gelu(model: ir.Model) -> bool:
    """Return whether the main graph has a GELU in several operators."""
    if all(node.op_type != "Tanh" for node in model.graph):
        return False
    copy = model.clone()
    with _inferred_shapes(copy):
        return bool(write_gelus(copy))


@contextmanager
def _inferred_shapes(model: ir.Model) -> Iterator[None]:
    """Infer shapes and types of all values in the main graph; ranks decide which constants are equal for all elements.

    They are removed at the end, because they would be stored.
    """
    before = [value for node in model.graph for value in node.outputs]
    unknown = [(value, value.type) for value in before if value.shape is None]
    try:
        inferred = {value.name: value for node in with_types(model).graph for value in node.outputs}
    except ModelError:
        inferred = {}
    for value, known in unknown:
        found = inferred.get(value.name)
        value.shape, value.type = (None, known) if found is None else (found.shape, known or found.type)
    try:
        yield
    finally:
        for value, known in unknown:
            value.shape, value.type = None, known
        stated = set(before)
        for value in (v for node in model.graph for v in node.outputs if v not in stated and not v.is_graph_output()):
            value.shape = None
