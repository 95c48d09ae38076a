"""Storage of float32 weights as float16."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxopt.errors import OnnxoptError
from onnxopt.graph.edit import editable, set_tensor, tensor_in
from onnxopt.graph.weights.constant_scales import must_be_constant
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.model_file import fits_protobuf, opset_of, size_bytes
from onnxopt.model_file.memory import is_streamed
from onnxopt.model_file.streamed import Latest, array_of, streamed_tensors
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip

_LEAST_ELEMENTS = 256
"""Below this, the conversion node is as large as the saving."""
_AT_ONCE = 1 << 20
"""Numbers that are compared at a time."""
_MOST_ERROR = 1e-3
"""Root mean square error relative to the weight's: four times that of values in the usual range."""
_FIRST_OPSET = 6
"""Earlier opsets name the type of Cast in words."""


@dataclass(frozen=True)
class StoreFloat16(Pass):
    """Store float32 weights as float16 with a conversion at load time: half the file size, the same speed.

    ONNX Runtime folds the conversion at load time (confirmed in its optimized graph); weights that it does not fold are
    skipped.

        Conv(W float32)   ->   Conv(Cast(W float16))

    Attributes:
        exclude: names of nodes whose weights are not converted.
    """

    name: ClassVar[str] = "store-float16"
    effect: ClassVar[Effect] = Effect.LOSSY

    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Convert the weights; name those that stay in float32, with the reason.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name.
        """
        work = editable(model, self.exclude)
        if opset_of(work) < _FIRST_OPSET:
            return Applied(model, (), (Skip("graph", f"opset {opset_of(work)} has no Cast that all runtimes read"),))
        chosen, skipped = self._choice(work)
        if chosen:
            folded = _folded(_stored(work, chosen))
            skipped += [Skip(name, "the runtime does not fold its conversion") for name in chosen if name not in folded]
            chosen = [name for name in chosen if name in folded]
        if not chosen:
            return Applied(model, (), tuple(skipped))
        result = _stored(work, chosen)
        before, after = size_bytes(model), size_bytes(result)
        if after >= before:
            return Applied(model, (), (*skipped, Skip("graph", "the file would not get smaller")))
        edits = [Edit(name, "stored as float16") for name in chosen]
        return Applied(result, (*edits, Edit("graph", f"{before} bytes to {after}")), tuple(skipped))

    def _choice(self, model: ir.Model) -> tuple[list[str], list[Skip]]:
        """Return the names of the weights to convert, and why others stay."""
        chosen, skipped, small = list[str](), list[Skip](), 0
        for name, value in model.graph.initializers.items():
            if value.const_value is None or value.const_value.dtype is not ir.DataType.FLOAT or not value.uses():
                continue
            if value.const_value.size < _LEAST_ELEMENTS:
                small += 1
                continue
            reason = _obstacle(value)
            if not set(self.exclude).isdisjoint(node.name or "" for node, _ in value.uses()):
                reason = "excluded by name"
            if reason:
                skipped.append(Skip(name, reason))
            else:
                chosen.append(name)
        if small:
            why = f"{small} with fewer than {_LEAST_ELEMENTS} elements stay: converting them takes as much as is saved"
            skipped.append(Skip("small weights", why))
        return chosen, skipped


def _obstacle(value: ir.Value) -> str:
    if value.is_graph_output():
        return "it is an output of the model"
    if must_be_constant(value):
        return "a product in integers reads it, and needs constant scales"
    flat = array_of(tensor_in(value)).reshape(-1)
    lost = size = 0.0
    for start in range(0, flat.size, _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        with np.errstate(over="ignore"):
            half = part.astype(np.float16)
        if not np.isfinite(half).all():
            return "it has values that float16 cannot hold"
        lost += float(np.square(half.astype(np.float64) - part).sum())
        size += float(np.square(part.astype(np.float64)).sum())
    return "its values are too small for float16" if np.sqrt(lost) > _MOST_ERROR * np.sqrt(size) else ""


def _stored(model: ir.Model, names: list[str]) -> ir.Model:
    """Return a copy of `model` whose weights `names` are float16 behind a Cast."""
    copy = model.clone()
    graph = copy.graph
    taken = {*graph.initializers, *(node.name for node in graph)}
    taken |= {v.name or "" for node in copy.graph.all_nodes() for v in node.outputs}
    casts, latest = [], None if fits_protobuf(model) else Latest()
    for name in names:
        old = graph.initializers[name]
        half = ir.Value(name=_free(taken, f"{name}_float16"))
        form = (ir.DataType.FLOAT16, tuple(tensor_in(old).shape.numpy()))
        set_tensor(half, streamed_tensors(tensor_in(old), _halved, {"half": form}, latest)["half"])
        cast = ir.Node(
            "", "Cast", [half], [ir.AttrInt64("to", int(ir.DataType.FLOAT))], name=_free(taken, f"{name}_cast")
        )
        cast.outputs[0].shape, cast.outputs[0].type = old.shape, old.type
        old.replace_all_uses_with(cast.outputs[0])
        graph.initializers.pop(name)
        # The value keeps the name by which it is known to users and other passes.
        cast.outputs[0].name = name
        graph.register_initializer(half)
        casts.append(cast)
    graph.insert_before(graph[0], casts)
    return copy


def _halved(array: np.ndarray) -> dict[str, np.ndarray]:
    return {"half": array.astype(np.float16)}


def _folded(model: ir.Model) -> set[str]:
    """Return the weights that the runtime's optimized graph of `model` no longer converts.

    A large model is not loaded for that: the runtime folds a conversion whatever the size of the weight is.
    """
    if is_streamed(model):
        return {node.outputs[0].name or "" for node in model.graph if node.op_type == "Cast"}
    try:
        optimized = optimized_model(model, Runtime())
    except OnnxoptError:
        return set()
    halves = {name for name, v in optimized.graph.initializers.items() if v.dtype is ir.DataType.FLOAT16 and v.uses()}
    casts = [node for node in model.graph if node.op_type == "Cast"]
    return {
        node.outputs[0].name or "" for node in casts if node.inputs[0] is not None and node.inputs[0].name not in halves
    }


def _free(taken: set[str | None], name: str) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
