"""Weight clustering: weights stored as codes of a palette."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt.errors import OnnxoptError
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import freeze_weights, lift_constants, name_nodes
from onnxopt.graph.weights.computed import Step, compute_weight
from onnxopt.measure.deflate import deflated_bytes
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.model_file import opset_of, size_bytes
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.reconstruction.palette import Palette, palette_of

_NODES_BYTES = 400
"""File size of the nodes and names for the lookup of one weight."""
_LEAST_ELEMENTS = 512
_FIRST_OPSET = 6
"""Earlier opsets name the type of Cast in words."""
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


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
        work = model.clone()
        freeze_weights(work)
        lift_constants(work)
        name_nodes(work)
        require_nodes(work, self.exclude)
        if opset_of(work) < _FIRST_OPSET:
            return Applied(model, (), (Skip("graph", f"opset {opset_of(work)} has no Cast that all runtimes read"),))
        palettes, skipped = self._palettes(work, context.seed)
        if palettes:
            kept = _looked_up(work, palettes)
            skipped += [Skip(name, "the runtime does not look it up at loading") for name in palettes.keys() - kept]
            palettes = {name: palette for name, palette in palettes.items() if name in kept}
        if not palettes:
            return Applied(model, (), tuple(sorted(skipped, key=lambda skip: skip.target)))
        result = work.clone()
        for name, palette in palettes.items():
            _store(result, name, palette)
        before, after = size_bytes(model), size_bytes(result)
        if after >= before:
            return Applied(model, (), (*skipped, Skip("graph", "the file would not get smaller")))
        arrays = {name: _array(work, name) for name in palettes}
        edits = [
            Edit(name, f"{_bits(p)} bits per value, {_error(arrays[name], p):.2%} of its size lost")
            for name, p in palettes.items()
        ]
        packed = sum(map(deflated_bytes, arrays.values())), sum(_deflated(p) for p in palettes.values())
        sizes = f"{before} bytes to {after}; these weights deflate to {packed[1]} bytes, from {packed[0]}"
        return Applied(result, (*edits, Edit("graph", sizes)), tuple(sorted(skipped, key=lambda skip: skip.target)))

    def _palettes(self, model: ir.Model, seed: int) -> tuple[dict[str, Palette], list[Skip]]:
        """Return the palettes of the weights to change, and why others stay."""
        found, skipped, small = dict[str, Palette](), list[Skip](), 0
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            if tensor is None or tensor.dtype not in _FLOATS or not value.uses():
                continue
            if tensor.size < _LEAST_ELEMENTS:
                small += 1
                continue
            array = tensor.numpy()
            reason = self._obstacle(value, array)
            palette = None if reason else self._palette(array, seed)
            if palette is None:
                skipped.append(Skip(name, reason or f"with 8 bits it loses more than {self.max_error:.1%} of its size"))
            elif palette.codes.nbytes + palette.colours.nbytes + _NODES_BYTES >= array.nbytes:
                skipped.append(Skip(name, "with its palette it would not be smaller"))
            elif _deflated(palette) + _NODES_BYTES >= deflated_bytes(array):
                skipped.append(Skip(name, "when compressed it is as small as it is"))
            else:
                found[name] = palette
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


def _array(model: ir.Model, name: str) -> np.ndarray:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return np.asarray(tensor.numpy())


def _bits(palette: Palette) -> int:
    return int(8 // palette.colours.shape[1])


def _error(array: np.ndarray, palette: Palette) -> float:
    flat = array.reshape(-1).astype(np.float64)
    return float(np.linalg.norm(flat - palette.array())) / max(float(np.linalg.norm(flat)), 1e-30)


def _deflated(palette: Palette) -> int:
    return deflated_bytes(palette.codes) + deflated_bytes(palette.colours)


def _store(model: ir.Model, name: str, palette: Palette) -> str:
    """Replace a weight by what looks it up, in place; return the name of its codes."""
    array = _array(model, name)
    colours = palette.colours if palette.colours.shape[1] > 1 else palette.colours[:, 0]
    parts = {"codes": palette.codes, "palette": colours, "shape": np.array(array.shape, np.int64)}
    steps: list[Step] = [
        ("Cast", ("codes",), {"to": int(ir.DataType.INT32)}),
        ("Gather", ("palette", "previous"), {"axis": 0}),
        ("Reshape", ("previous", "shape"), {}),
    ]
    return compute_weight(model, name, parts, steps)[0]


def _looked_up(model: ir.Model, palettes: dict[str, Palette]) -> set[str]:
    """Return the weights whose codes are gone from the graph that the runtime makes."""
    trial = model.clone()
    codes = {name: _store(trial, name, palette) for name, palette in palettes.items()}
    try:
        optimized = optimized_model(trial, Runtime())
    except OnnxoptError:
        return set()
    left = {name for name, value in optimized.graph.initializers.items() if value.uses()}
    return {name for name, stored in codes.items() if stored not in left}
