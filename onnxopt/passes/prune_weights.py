"""Set the weights that matter least to zero."""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt import importance
from onnxopt.errors import DataError, FileError, UsageError, nearest
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import lift_constants, name_nodes, set_weight
from onnxopt.graph.sparsity import Axes, Refused, Weight, weights_of
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.samples.archive import read_archive

_DEFAULT_RATIO = 0.5
_CHUNK = 1 << 22


@dataclass(frozen=True)
class PruneWeights(Pass):
    """Single weights, n of m neighbours, or blocks become zero: for compressed size and other runtimes.

    ONNX Runtime gains no speed from zeros; to make a model faster its channels must go. Weights are those of Conv,
    ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN; biases stay.

    Attributes:
        ratio: share of weights to set to zero; set by the pattern itself where that is n:m.
        count: how many weights to set to zero, in place of `ratio`; per layer if the scope is local, else in total.
        scope: `local` takes the same share of each layer, `global` the least important of all layers together.
        pattern: `unstructured`, `2:4` (at most 2 of every 4 neighbours along the inputs stay), `4x1` (blocks of
            outputs x inputs).
        importance: what decides: `magnitude`, `random`, or `lamp` (magnitudes made comparable between layers).
        masks: path of an .npz file of 0/1 masks by initializer name, which then decide alone.
        exclude: names of nodes whose weights stay.
    """

    name: ClassVar[str] = "prune-weights"
    effect: ClassVar[Effect] = Effect.LOSSY

    ratio: Annotated[float, Field(ge=0, le=1)] = _DEFAULT_RATIO
    count: int | None = None
    scope: Literal["local", "global"] = "local"
    pattern: str = "unstructured"
    importance: Literal["magnitude", "random", "lamp"] = "magnitude"
    masks: str = ""
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what the options mean together.

        Raises:
            UsageError: ONX101 an option makes no sense, ONX109 two contradict each other.
        """
        _, first, second = _parts(self.pattern)
        if not 0 <= self.ratio <= 1:
            raise _senseless("ratio", self.ratio, "Use a share from 0 to 1.")
        if self.count is not None and self.count < 0:
            raise _senseless("count", self.count, "Use 0 or more.")
        if self.count is not None and self.ratio != _DEFAULT_RATIO:
            raise _contradiction("count and ratio are both given", "Leave one out.")
        fixed = ":" in self.pattern
        if fixed and (self.count is not None or self.ratio not in (0, _DEFAULT_RATIO, 1 - first / second)):
            raise _contradiction(f"the pattern {self.pattern} sets the ratio itself", "Leave out ratio and count.")
        if fixed and self.scope == "global":
            raise _contradiction(f"the pattern {self.pattern} is the same in each layer", "Leave out scope=global.")
        if self.masks and (self.count is not None or self.ratio not in (0, _DEFAULT_RATIO)):
            raise _contradiction("masks say themselves which weights go", "Leave out ratio and count.")
        if self.masks and (self.pattern, self.scope, self.importance) != ("unstructured", "local", "magnitude"):
            raise _contradiction(
                "masks say themselves which weights go", "Leave out pattern, scope and importance, or the masks."
            )

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Set weights to zero; says the sparsity of every layer, and which were left alone and why.

        Raises:
            UsageError: ONX101 `count` is more than there is, ONX102 `exclude` or the masks name something that is not
                there.
            DataError: ONX201 the masks cannot be read, ONX203 and ONX204 they do not fit.
            FileError: ONX501, ONX505 there is no such file, or it cannot be read.
        """
        edited = model.clone()
        lift_constants(edited)
        name_nodes(edited)
        require_nodes(edited, self.exclude)
        if not self.masks and 0 in (self.ratio, self.count):
            return Applied(model)
        weights, refused = weights_of(edited)
        weights, more = _allowed(weights, self)
        refused += more
        removed = self._from_file(weights, refused) if self.masks else self._chosen(weights, refused, context)
        skipped = [Skip(r.target, r.reason) for r in refused]
        edits: list[Edit] = []
        sizes, totals = [0, 0], [0, 0]
        for weight in weights:
            layers = ", ".join(weight.layers)
            if weight.value.name not in removed:
                if self.masks:
                    skipped.append(Skip(layers, f"no mask for its weight {weight.value.name}"))
                continue
            old, gone = _array(weight), removed[weight.value.name]
            new = old.copy()
            new[gone] = 0
            zeros = new.size - int(np.count_nonzero(new))
            if zeros == new.size - int(np.count_nonzero(old)):
                skipped.append(Skip(layers, f"nothing in its weight {weight.value.name} had to become zero"))
                continue
            set_weight(weight.value, new)
            sizes = [sizes[0] + _deflated(old), sizes[1] + _deflated(new)]
            totals = [totals[0] + zeros, totals[1] + new.size]
            # Locally every layer gives the same share, which a table counts; globally it matters who gave how much.
            of_whom = f" in {layers}" if self.scope == "global" else ""
            edits.append(Edit(f"{layers}: {weight.value.name}", f"{100 * zeros / new.size:.1f} % zeros{of_whom}"))
        if not edits:
            return Applied(model, (), tuple(skipped))
        note = (
            f"{totals[0]} of {totals[1]} weights pruned, which deflate to {sizes[1]} bytes, from {sizes[0]}; "
            "ONNX Runtime gains no speed from zeros"
        )
        return Applied(edited, (*edits, Edit("graph", note)), tuple(skipped))

    def _from_file(self, weights: list[Weight], refused: list[Refused]) -> dict[str | None, np.ndarray]:
        path = Path(self.masks).expanduser()
        if not path.exists():
            raise FileError("ONX501", "the file of masks does not exist", where=self.masks, hint="Check the path.")
        masks = read_archive(path)
        if not masks:
            raise DataError("ONX201", "the file holds no masks", where=self.masks, hint="Save one array per weight.")
        known = {w.value.name or "": w for w in weights}
        reasons = {r.value.name: r.reason for r in refused if r.value is not None}
        for name, mask in masks.items():
            if name not in known:
                hint = nearest(name, known) if known else "Nothing in this model can be pruned."
                raise UsageError(
                    "ONX102",
                    "a mask is not for a weight that can be pruned",
                    where=name,
                    why=reasons.get(name, ""),
                    hint=hint,
                )
            _check_mask(name, mask, _array(known[name]).shape)
        return {name: mask == 0 for name, mask in masks.items()}

    def _chosen(self, weights: list[Weight], refused: list[Refused], context: Context) -> dict[str | None, np.ndarray]:
        """Return where each weight becomes zero, by name; a weight that the pattern does not fit is refused."""
        kind, first, second = _parts(self.pattern)
        units: dict[str | None, _Units] = {}
        for weight in list(weights):
            array = _array(weight)
            reason = _obstacle(array, weight.axes, kind, first)
            if reason:
                refused.append(Refused(", ".join(weight.layers), weight.value, reason))
                weights.remove(weight)
            elif kind == "n:m":
                assert weight.axes is not None
                assert weight.axes.inputs is not None
                scores = self._scores(weight, array, context)
                gone = importance.lowest_n_of_m(scores, weight.axes.inputs, first, second)
                units[weight.value.name] = _Units(gone, None, None)
            else:
                ids = _blocks(array.shape, weight.axes, first, second) if kind == "block" else None
                units[weight.value.name] = _units(self._scores(weight, array, context), ids)
        if kind == "n:m":
            return {name: unit.scores for name, unit in units.items()}
        if self.scope == "local":
            return {
                name: _lowest({name: unit}, self._number(unit.elements, name))[name] for name, unit in units.items()
            }
        return _lowest(units, self._number(sum(u.elements for u in units.values()), "all weights"))

    def _scores(self, weight: Weight, array: np.ndarray, context: Context) -> np.ndarray:
        match self.importance:
            case "random":
                # A stream of its own for each weight: leaving one layer out does not change the others.
                seed = (context.seed % 2**32, zlib.crc32((weight.value.name or "").encode()))
                return importance.weight_random(array, seed)
            case "lamp":
                return importance.lamp(array)
        return importance.weight_magnitude(array)

    def _number(self, elements: int, where: str | None) -> int:
        if self.count is None:
            return round(self.ratio * elements)
        if self.count > elements:
            raise UsageError(
                "ONX101",
                "count is more than there are weights",
                where=where or "",
                why=f"{self.count} of {elements}",
                hint="Use less, exclude the layer, or use scope=global.",
            )
        return self.count


@dataclass(frozen=True)
class _Units:
    """What is removed as one: the scores, and for blocks their sizes and which one each element is in."""

    scores: np.ndarray
    sizes: np.ndarray | None
    ids: np.ndarray | None

    @property
    def elements(self) -> int:
        return self.scores.size if self.ids is None else self.ids.size


def _units(scores: np.ndarray, ids: np.ndarray | None) -> _Units:
    if ids is None:
        return _Units(scores, None, None)
    sizes = np.bincount(ids.ravel())
    # The mean, not the sum: blocks at the edge are smaller.
    return _Units(np.bincount(ids.ravel(), weights=scores.ravel()) / sizes, sizes, ids)


def _lowest(units: Mapping[str | None, _Units], count: int) -> dict[str | None, np.ndarray]:
    if not units:
        return {}
    scores = np.concatenate([u.scores.ravel() for u in units.values()])
    sizes = [u.sizes for u in units.values() if u.sizes is not None]
    chosen = (
        importance.lowest_units(scores, np.concatenate(sizes), count) if sizes else importance.lowest(scores, count)
    )
    parts = np.split(chosen, np.cumsum([u.scores.size for u in units.values()])[:-1])
    return {
        name: part.reshape(unit.scores.shape) if unit.ids is None else part[unit.ids]
        for (name, unit), part in zip(units.items(), parts, strict=True)
    }


def _blocks(shape: tuple[int, ...], axes: Axes | None, outputs: int, inputs: int) -> np.ndarray:
    assert axes is not None
    assert axes.outputs is not None
    assert axes.inputs is not None
    return importance.block_ids(shape, {axes.outputs: outputs, axes.inputs: inputs})


def _obstacle(array: np.ndarray, axes: Axes | None, kind: str, keep: int) -> str:
    if not array.size:
        return "its weight is empty"
    if not np.isfinite(array).all():
        return "its weight holds NaN or infinite values"
    if kind == "unstructured":
        return ""
    if axes is None or axes.inputs is None or (kind == "block" and axes.outputs is None):
        return "its weight is grouped, reshaped or shared so that a pattern along its inputs has no meaning"
    if kind == "n:m" and array.shape[axes.inputs] <= keep:
        return f"it has {array.shape[axes.inputs]} inputs per output, of which {keep} stay"
    return ""


def _allowed(weights: list[Weight], spec: PruneWeights) -> tuple[list[Weight], list[Refused]]:
    kept, refused = list[Weight](), list[Refused]()
    for weight in weights:
        if set(weight.layers) & set(spec.exclude):
            refused.append(Refused(", ".join(weight.layers), weight.value, "excluded by name"))
        else:
            kept.append(weight)
    return kept, refused


def _parts(pattern: str) -> tuple[Literal["unstructured", "n:m", "block"], int, int]:
    if pattern == "unstructured":
        return "unstructured", 1, 1
    match = re.fullmatch(r"([1-9]\d{0,3})([:x])([1-9]\d{0,3})", pattern)
    if match is None or (match[2] == ":" and int(match[1]) >= int(match[3])):
        raise _senseless("pattern", pattern, "Use unstructured, n:m with n < m such as 2:4, or a block such as 1x4.")
    return "n:m" if match[2] == ":" else "block", int(match[1]), int(match[3])


def _check_mask(name: str, mask: np.ndarray, shape: tuple[int, ...]) -> None:
    if mask.shape != shape:
        raise DataError(
            "ONX203",
            "a mask has another shape than its weight",
            where=name,
            why=f"{mask.shape}, the weight {shape}",
            hint="Save it in the layout of the ONNX file; frameworks may store the transpose.",
        )
    if mask.dtype.kind not in "biuf" or not ((mask == 0) | (mask == 1)).all():
        raise DataError(
            "ONX204", "a mask holds other values than 0 and 1", where=name, hint="Save 0 to remove, 1 to keep."
        )


def _array(weight: Weight) -> np.ndarray:
    assert weight.value.const_value is not None
    return np.asarray(weight.value.const_value.numpy())


def _deflated(array: np.ndarray) -> int:
    """Return the size after deflate, as in zip and gzip, at their usual level."""
    packer, data = zlib.compressobj(), np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    pieces = (packer.compress(data[i : i + _CHUNK].tobytes()) for i in range(0, len(data), _CHUNK))
    return sum(map(len, pieces)) + len(packer.flush())


def _senseless(option: str, value: object, hint: str) -> UsageError:
    return UsageError(
        "ONX101", "an option of pass prune-weights has a wrong value", where=option, why=repr(value), hint=hint
    )


def _contradiction(why: str, hint: str) -> UsageError:
    return UsageError("ONX109", "options of pass prune-weights contradict each other", why=why, hint=hint)
