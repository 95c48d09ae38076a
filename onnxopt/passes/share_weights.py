"""Weight clustering: weights stored as codes of a palette."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt.document import units
from onnxopt.errors import OnnxoptError
from onnxopt.graph.edit import editable, tensor_in
from onnxopt.graph.names import names_in
from onnxopt.graph.weights.computed import Step, compute_weight
from onnxopt.measure.deflate import deflated_bytes
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.model_file import fits_protobuf, opset_of, size_bytes
from onnxopt.model_file.memory import is_streamed
from onnxopt.model_file.streamed import Latest, array_of
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.reconstruction.palette import Palette, codes_of, palette_of

_NODES_BYTES = 400
"""File size of the nodes and names for the lookup of one weight."""
_LEAST_ELEMENTS = 512
_AT_ONCE = 1 << 20
"""Numbers that are compared at a time."""
_FIRST_OPSET = 6
"""Earlier opsets name the type of Cast in words."""
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


@dataclass(frozen=True)
class _Shared:
    """A weight as codes of a palette.

    Attributes:
        colours: shape (colours, values per code).
        codes: uint8; of a large model computed when they are written.
        lost: error relative to the weight's size.
        packed: bytes of the weight and of both parts when deflated.
    """

    colours: np.ndarray
    codes: ir.TensorProtocol
    lost: float
    packed: tuple[int, int]


@dataclass(frozen=True)
class ShareWeights(Pass):
    """Store each value, or group of values, as a one-byte index into a palette of 256 (k-means clustering).

    ONNX Runtime looks the values up once, at load time (confirmed in its optimized graph), so the speed does not
    change. A weight is skipped unless both the file and the compressed file become smaller.

        Conv(W float32)   ->   Conv(Gather(palette, Cast(codes uint8)))

    Attributes:
        bits: bits per value: 8 = single values, 4 = pairs, 2 = groups of four; more where the size is not divisible.
        max_error: largest RMS error relative to the RMS of the weight; above it, a weight gets more bits or is skipped.
        exclude: names of nodes whose weights are not shared.
    """

    name: ClassVar[str] = "share-weights"
    effect: ClassVar[Effect] = Effect.LOSSY

    bits: Literal[2, 4, 8] = 8
    max_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Replace weights of `model` by palettes; skips name the others with reasons.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name.
        """
        work = editable(model, self.exclude)
        if opset_of(work) < _FIRST_OPSET:
            return Applied(model, (), (Skip("graph", f"opset {opset_of(work)} has no Cast that all runtimes read"),))
        palettes, skipped = self._palettes(work, context.seed, None if fits_protobuf(model) else Latest())
        if palettes:
            kept = _looked_up(work, palettes)
            skipped += [Skip(name, "the runtime does not look it up at loading") for name in palettes.keys() - kept]
            palettes = {name: palette for name, palette in palettes.items() if name in kept}
        if not palettes:
            return Applied(model, (), tuple(sorted(skipped, key=lambda skip: skip.target)))
        result = work.clone()
        taken = names_in(result)
        for name, palette in palettes.items():
            _store(result, name, palette, taken)
        before, after = size_bytes(model), size_bytes(result)
        if after >= before:
            return Applied(model, (), (*skipped, Skip("graph", "the file would not get smaller")))
        edits = [
            Edit(n, f"{_bits(p.colours)} bits per value, {units.share(p.lost, 2)} of its size lost")
            for n, p in palettes.items()
        ]
        deflated = [sum(p.packed[i] for p in palettes.values()) for i in (0, 1)]
        sizes = f"{before} bytes to {after}; these weights deflate to {deflated[1]} bytes, from {deflated[0]}"
        return Applied(result, (*edits, Edit("graph", sizes)), tuple(sorted(skipped, key=lambda skip: skip.target)))

    def _palettes(self, model: ir.Model, seed: int, latest: Latest | None) -> tuple[dict[str, _Shared], list[Skip]]:
        """Return the palettes of the weights to change, and why others stay."""
        found, skipped, small = dict[str, _Shared](), list[Skip](), 0
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            if tensor is None or tensor.dtype not in _FLOATS or not value.uses():
                continue
            if tensor.size < _LEAST_ELEMENTS:
                small += 1
                continue
            array = array_of(tensor)
            reason = self._obstacle(value, array)
            palette = None if reason else self._palette(array, seed)
            if palette is None:
                limit = units.share(self.max_error or 0.0, 1)
                skipped.append(Skip(name, reason or f"with 8 bits it loses more than {limit} of its size"))
            elif palette.codes.nbytes + palette.colours.nbytes + _NODES_BYTES >= array.nbytes:
                skipped.append(Skip(name, "with its palette it would not be smaller"))
            else:
                shared = _shared(tensor, array, palette, latest)
                if shared.packed[1] + _NODES_BYTES >= shared.packed[0]:
                    skipped.append(Skip(name, "when compressed it is as small as it is"))
                else:
                    found[name] = shared
        if small:
            skipped.append(Skip("small weights", f"{small} with fewer than {_LEAST_ELEMENTS} elements stay"))
        return found, skipped

    def _obstacle(self, value: ir.Value, array: np.ndarray) -> str:
        if value.is_graph_output():
            return "it is an output of the model"
        if not set(self.exclude).isdisjoint(node.name or "" for node, _ in value.uses()):
            return "excluded by name"
        return "" if np.isfinite(array).all() else "it has values that are not finite"

    def _palette(self, array: np.ndarray, seed: int) -> Palette | None:
        """Return the palette with the fewest bits that keep the error; None where there is none."""
        for bits in (2, 4, 8):
            if bits < self.bits or array.size % (8 // bits):
                continue
            palette = palette_of(array, 8 // bits, seed)
            if self.max_error is None or _error(array, palette) <= self.max_error:
                return palette
        return None


def _shared(tensor: ir.TensorProtocol, array: np.ndarray, palette: Palette, latest: Latest | None) -> _Shared:
    colours, codes = palette.colours, ir.tensor(palette.codes)
    if latest is not None:
        form = (ir.DataType.UINT8, palette.codes.shape)
        codes = latest.deferred(tensor, lambda again: {"codes": codes_of(again, colours)}, {"codes": form})["codes"]
    return _Shared(colours, codes, _error(array, palette), (deflated_bytes(array), _deflated(palette)))


def _bits(colours: np.ndarray) -> int:
    return int(8 // colours.shape[1])


def _error(array: np.ndarray, palette: Palette) -> float:
    """Return the error relative to the size of the weight; summed up part by part at any size."""
    flat, group = array.reshape(-1), palette.colours.shape[1]
    lost = size = 0.0
    for start in range(0, flat.size, _AT_ONCE):
        part = flat[start : start + _AT_ONCE].astype(np.float64)
        codes = palette.codes[start // group : (start + part.size) // group]
        lost += float(np.square(part - palette.colours[codes].reshape(-1)).sum())
        size += float(np.square(part).sum())
    return float(np.sqrt(lost)) / max(float(np.sqrt(size)), 1e-30)


def _deflated(palette: Palette) -> int:
    return deflated_bytes(palette.codes) + deflated_bytes(palette.colours)


def _store(model: ir.Model, name: str, shared: _Shared, taken: set[str]) -> str:
    """Replace a weight by nodes that look it up, in place; return the name of its codes."""
    tensor = tensor_in(model.graph.initializers[name])
    colours = shared.colours if shared.colours.shape[1] > 1 else shared.colours[:, 0]
    parts: dict[str, np.ndarray | ir.TensorProtocol]
    parts = {"codes": shared.codes, "palette": colours, "shape": np.array(tensor.shape.numpy(), np.int64)}
    steps: list[Step] = [
        ("Cast", ("codes",), {"to": int(ir.DataType.INT32)}),
        ("Gather", ("palette", "previous"), {"axis": 0}),
        ("Reshape", ("previous", "shape"), {}),
    ]
    return compute_weight(model, name, parts, steps, taken)[0]


def _looked_up(model: ir.Model, palettes: dict[str, _Shared]) -> set[str]:
    """Return the weights whose codes the runtime's optimized graph no longer has.

    A large model is not loaded for that: the runtime looks values up whatever their number is.
    """
    if is_streamed(model):
        return set(palettes)
    trial = model.clone()
    taken = names_in(trial)
    codes = {name: _store(trial, name, palette, taken) for name, palette in palettes.items()}
    try:
        optimized = optimized_model(trial, Runtime())
    except OnnxoptError:
        return set()
    left = {name for name, value in optimized.graph.initializers.items() if value.uses()}
    return {name for name, stored in codes.items() if stored not in left}
