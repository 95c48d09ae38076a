"""Computation in float16."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError, OnnxoptError
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import lift_constants, name_nodes
from onnxopt.graph.weights.constant_scales import has_made_scales, packs_scales, widen_products
from onnxopt.measure.runtime.first_load import CrashError
from onnxopt.measure.runtime.session import MAPPED, Runtime, Session, session_and_graph
from onnxopt.model_file import fits_protobuf
from onnxopt.model_file.memory import from_runtime
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.quantization.ort_half import in_float16, stays_float32


@dataclass(frozen=True)
class ComputeFloat16(Pass):
    """Compute in float16: weights and activations of half the size, for GPUs and browsers.

    Inputs and outputs keep float32. On CPUs ONNX Runtime converts most operators back to float32: the file is half as
    large there, and not faster; `store-float16` loses less.

        Conv(x, W float32)   ->   Cast(Conv(Cast(x), W float16))

    Products with weights of 4 or 8 bits stay in float32 where ONNX Runtime computes them, and all operators beside
    them, in float32 on this processor: it would convert their scales too late to be packed, and the products be zeros.

    Attributes:
        exclude: names of nodes that stay in float32, between casts.
    """

    name: ClassVar[str] = "compute-float16"
    effect: ClassVar[Effect] = Effect.LOSSY

    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Convert the whole graph; name the nodes that stay in float32.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name.
        """
        work = model.clone()
        lift_constants(work, every_type=True)  # the conversion overlooks constants other than tensors
        name_nodes(work)
        require_nodes(work, self.exclude)
        reason = _obstacle(work)
        if reason:
            return Applied(model, (), (Skip("graph", reason),))
        kept: tuple[Skip, ...] = ()
        try:
            try:
                result, wide = _converted(work, self.exclude)
            except CrashError:
                moves = [node.name or "" for node in work.graph.all_nodes() if node.op_type == "Transpose"]
                kept = (Skip("Transpose", f"{len(moves)} of them stay in float32: ONNX Runtime crashes on them"),)
                result, wide = _converted(work, (*self.exclude, *moves))
        except (ModelError, NativeError) as error:
            return Applied(model, (), (Skip("graph", f"the converted graph does not load: {_cause(error)}"),))
        weights = [v for v in result.graph.initializers.values() if v.dtype is ir.DataType.FLOAT16]
        edit = Edit("graph", f"converted to float16, with {len(weights)} weights")
        if wide:
            why = f"{wide} of them stay in float32: ONNX Runtime would convert their scales, and answer zeros"
            kept = (*kept, Skip("MatMulNBits", why))
        return Applied(result, (edit,), (*kept, *self._left(work)))

    def _left(self, model: ir.Model) -> list[Skip]:
        blocked = stays_float32(model)
        named = [Skip(name, "excluded by name") for name in self.exclude]
        counted = Counter(node.op_type for node in model.graph.all_nodes() if node.op_type in blocked)
        return named + [
            Skip(kind, f"{count} of them stay in float32: float16 is too coarse for it, or the runtime lacks it")
            for kind, count in sorted(counted.items())
        ]


def _converted(model: ir.Model, exclude: Sequence[str]) -> tuple[ir.Model, int]:
    """Return the converted graph, after a first load, and the number of products in it that stay in float32.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load it, or crashes on it; ONX305 types in it contradict each other.
        NativeError: ONX402 the conversion failed.
    """
    result = in_float16(model, exclude)
    wide = _with_converted_scales(result)
    widen_products(result, wide)
    Session(result, Runtime())
    return result, len(wide)


def _with_converted_scales(model: ir.Model) -> list[ir.Node]:
    """Return the products whose scales ONNX Runtime converts behind a Cast, as its graph without optimizations shows.

    With optimizations it folds the conversions of the main graph, and none inside control flow.
    """
    products = [node for node in model.graph.all_nodes() if packs_scales(node) and not has_made_scales(node)]
    if not products:
        return []
    for number, node in enumerate(products):
        node.name = f"{node.name or node.op_type}_{number}"  # branches may have equal names
    _, graph = session_and_graph(model, MAPPED)
    late = {node.name for node in from_runtime(graph).graph.all_nodes() if has_made_scales(node)}
    return [node for node in products if node.name in late]


def _obstacle(model: ir.Model) -> str:
    if not fits_protobuf(model):
        return "the runtime's conversion takes no model above 1.5 GB"
    if "" not in model.opset_imports:
        return "it has no operators of the standard set"
    if model.functions:
        return "functions of the model's own are not converted"
    floats = [v for v in (*model.graph.inputs, *model.graph.initializers.values()) if v.dtype is ir.DataType.FLOAT]
    constant = any(node.op_type == "Constant" for node in model.graph.all_nodes())
    return "" if floats or constant else "it has no float32 numbers"


def _cause(error: OnnxoptError) -> str:
    return error.why or error.what
