"""Unstructured and n:m pruning: the least important weights become zero."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt.errors import UsageError
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import lift_constants, name_nodes, set_weight, tensor_in
from onnxopt.graph.weights.masks import removed_by_masks
from onnxopt.graph.weights.sparsity import Refused, Weight, weights_of
from onnxopt.graph.weights.units import Pattern
from onnxopt.measure.deflate import deflated_bytes
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.pruning.weight_choice import WeightChoice

_DEFAULT_RATIO = 0.5


@dataclass(frozen=True)
class PruneWeights(Pass):
    """Set single weights, n of m neighbours, or blocks to zero, for compressed size and for sparse runtimes.

    ONNX Runtime gains no speed from zeros: prune channels for a faster model. The pass prunes weights of Conv,
    ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN, but no biases.

    Attributes:
        ratio: share of weights to set to zero; an n:m pattern sets it.
        count: number of weights to set to zero, instead of `ratio`; per layer with `scope=local`, else in total.
        scope: `local` = the same share of each layer, `global` = the least important of all layers together, `output` =
            the same share of each output of each layer, as published for wanda.
        pattern: `unstructured`, `2:4` (at most 2 nonzero of every 4 neighbours along the inputs), `4x1` (blocks of
            outputs x inputs).
        importance: score per weight: `magnitude`, `random`, `lamp` (magnitude, normalized between layers), or `wanda`
            (magnitude times input norm on calibration samples).
        masks: path of an .npz file of 0/1 masks by initializer name, which replace ratio and importance.
        exclude: names of nodes whose weights are not pruned.
    """

    name: ClassVar[str] = "prune-weights"
    effect: ClassVar[Effect] = Effect.LOSSY

    ratio: Annotated[float, Field(ge=0, le=1)] = _DEFAULT_RATIO
    count: int | None = None
    scope: Literal["local", "global", "output"] = "local"
    pattern: str = "unstructured"
    importance: Literal["magnitude", "random", "lamp", "wanda"] = "magnitude"
    masks: str = ""
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the combination of options.

        Raises:
            UsageError: ONX101 an option has an invalid value, ONX109 two options exclude each other.
        """
        pattern = Pattern.parse(self.pattern)
        if pattern is None:
            hint = "Use unstructured, n:m with n < m such as 2:4, or a block such as 1x4."
            raise _senseless("pattern", self.pattern, hint)
        if not 0 <= self.ratio <= 1:
            raise _senseless("ratio", self.ratio, "Use a share from 0 to 1.")
        if self.count is not None and self.count < 0:
            raise _senseless("count", self.count, "Use 0 or more.")
        if self.count is not None and self.ratio != _DEFAULT_RATIO:
            raise _contradiction("count and ratio are both given", "Leave one out.")
        for contradicts, why, hint in self._contradictions(pattern):
            if contradicts:
                raise _contradiction(why, hint)

    def _contradictions(self, pattern: Pattern) -> Iterator[tuple[bool, str, str]]:
        """Yield each pair of options that exclude each other: whether both are given, why not both, what to do."""
        fixed = pattern.ratio
        by_masks = "masks determine the weights to remove"
        counted = self.count is not None or self.ratio not in (0, _DEFAULT_RATIO)
        yield (
            fixed is not None and (self.count is not None or self.ratio not in (0, _DEFAULT_RATIO, fixed)),
            f"the pattern {self.pattern} sets the ratio itself",
            "Leave out ratio and count.",
        )
        yield (
            fixed is not None and self.scope != "local",
            f"the pattern {self.pattern} is the same in each layer",
            "Leave out the scope.",
        )
        yield (
            self.importance == "wanda" and self.scope == "global",
            "wanda does not compare between layers",
            "Use scope=local or scope=output.",
        )
        yield (
            self.scope == "output" and (self.importance != "wanda" or pattern.kind == "block"),
            "scope=output is for wanda and single weights",
            "Use scope=local.",
        )
        yield bool(self.masks) and counted, by_masks, "Leave out ratio and count."
        yield (
            bool(self.masks) and (self.pattern, self.scope, self.importance) != ("unstructured", "local", "magnitude"),
            by_masks,
            "Leave out pattern, scope and importance, or the masks.",
        )

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Set weights to zero; edits name the sparsity of every layer, skips the other layers with reasons.

        Raises:
            UsageError: ONX101 `count` exceeds the number of weights, ONX102 `exclude` or the masks have an unknown
                name, ONX114 wanda has no samples.
            DataError: ONX201 the masks cannot be read, ONX203 and ONX204 they do not fit.
            FileError: ONX501 the file does not exist, ONX505 it cannot be read.
        """
        edited = model.clone()
        lift_constants(edited)
        name_nodes(edited)
        require_nodes(edited, self.exclude)
        if not self.masks and 0 in (self.ratio, self.count):
            return Applied(model)
        weights, refused = weights_of(edited)
        names = Counter(w.value.name for w in weights)
        reasons = [self._obstacle(w, names[w.value.name]) for w in weights]
        refused += [Refused(", ".join(w.layers), w.value, r) for w, r in zip(weights, reasons, strict=True) if r]
        weights = [w for w, r in zip(weights, reasons, strict=True) if not r]
        if self.masks:
            removed = removed_by_masks(self.masks, weights, refused)
        else:
            pattern = Pattern.parse(self.pattern) or Pattern()
            choice = WeightChoice(self.ratio, self.count, self.scope, pattern, self.importance)
            removed = choice.removed(edited, weights, refused, context.calibration, context.seed)
            weights = [w for w in weights if (w.value.name or "") in removed]
        skipped = [Skip(r.target, r.reason) for r in refused]
        edits: list[Edit] = []
        sizes, totals = [0, 0], [0, 0]
        for weight in weights:
            layers = ", ".join(weight.layers)
            if (weight.value.name or "") not in removed:
                skipped.append(Skip(layers, f"no mask for its weight {weight.value.name}"))
                continue
            old, gone = _array(weight), removed[weight.value.name or ""]
            new = old.copy()
            new[gone] = 0
            zeros = new.size - int(np.count_nonzero(new))
            if zeros == new.size - int(np.count_nonzero(old)):
                skipped.append(Skip(layers, f"nothing in its weight {weight.value.name} had to become zero"))
                continue
            set_weight(weight.value, new)
            sizes = [sizes[0] + deflated_bytes(old), sizes[1] + deflated_bytes(new)]
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

    def _obstacle(self, weight: Weight, namesakes: int) -> str:
        if not set(weight.layers).isdisjoint(self.exclude):
            return "excluded by name"
        return "weights of several branches have its name" if namesakes > 1 else ""


def _array(weight: Weight) -> np.ndarray:
    return np.asarray(tensor_in(weight.value).numpy())


def _senseless(option: str, value: object, hint: str) -> UsageError:
    return UsageError(
        "ONX101", "an option of pass prune-weights has a wrong value", where=option, why=repr(value), hint=hint
    )


def _contradiction(why: str, hint: str) -> UsageError:
    return UsageError("ONX109", "options of pass prune-weights contradict each other", why=why, hint=hint)
