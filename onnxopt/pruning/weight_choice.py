"""Choice of the weights that become zero: the requested number, the least important first."""

import zlib
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt import importance
from onnxopt.errors import UsageError
from onnxopt.graph.edit import tensor_in
from onnxopt.graph.weights.sparsity import Axes, Refused, Weight
from onnxopt.graph.weights.units import Pattern, Units, lowest_of, units_of
from onnxopt.pruning.wanda import Wanda
from onnxopt.samples import Samples


@dataclass(frozen=True)
class WeightChoice:
    """The number of elements to remove, and the criterion of their choice.

    Attributes:
        ratio: share of the elements of each weight, or with scope `global` of all.
        count: number of elements to remove; None for the share `ratio`.
        scope: within what elements are compared: `local` within a weight, `global` in all, `output` (for wanda) within
            the weights of one output.
        pattern: allowed positions of zeros.
        importance: `magnitude`, `random`, `lamp` or `wanda`.
    """

    ratio: float
    count: int | None
    scope: str
    pattern: Pattern
    importance: str

    def removed(
        self, model: ir.Model, weights: list[Weight], refused: list[Refused], samples: Samples | None, seed: int
    ) -> dict[str, np.ndarray]:
        """Return the mask of the elements that become zero, by name of the weight.

        Args:
            model: the model of the weights.
            weights: the weights to choose from.
            refused: those that the pattern or the importance does not fit are added to it.
            samples: samples for `wanda`.
            seed: the seed of random importance.

        Raises:
            UsageError: ONX101 `count` is more than there is, ONX114 wanda has no samples.
        """
        wanda = self._observed(model, weights, samples)
        units, removed = dict[str, Units](), dict[str, np.ndarray]()
        for weight in weights:
            array, name = np.asarray(tensor_in(weight.value).numpy()), weight.value.name or ""
            axes = weight.axes or Axes(None, None)
            reason = self.pattern.obstacle(array, weight.axes) or (wanda.refused.get(name, "") if wanda else "")
            if reason:
                refused.append(Refused(", ".join(weight.layers), weight.value, reason))
                continue
            scores = wanda.scores(name, array, axes) if wanda else self._scores(name, array, seed)
            if self.pattern.kind == "n:m":
                removed[name] = self.pattern.lowest(scores, axes)
            elif wanda and self.scope == "output":
                removed[name] = wanda.lowest_per_output(name, scores, axes, self._number(array.size, name))
            else:
                units[name] = units_of(scores, axes, self.pattern)
        if self.scope == "global":
            return removed | lowest_of(units, self._number(sum(u.elements for u in units.values()), "all weights"))
        for name, unit in units.items():
            removed |= lowest_of({name: unit}, self._number(unit.elements, name))
        return removed

    def _observed(self, model: ir.Model, weights: list[Weight], samples: Samples | None) -> Wanda | None:
        if self.importance != "wanda":
            return None
        if samples is None:
            what, hint = "importance=wanda needs calibration samples", "Give some with --data, or use magnitude."
            raise UsageError("ONX114", what, where="prune-weights", hint=hint)
        return Wanda.observe(model, weights, samples)

    def _scores(self, name: str, array: np.ndarray, seed: int) -> np.ndarray:
        match self.importance:
            case "random":
                # A separate stream for each weight: leaving one layer out does not change the others.
                return importance.weight_random(array, (seed % 2**32, zlib.crc32(name.encode())))
            case "lamp":
                return importance.lamp(array)
        return importance.weight_magnitude(array)

    def _number(self, elements: int, where: str) -> int:
        if self.count is None:
            return round(self.ratio * elements)
        if self.count > elements:
            raise UsageError(
                "ONX101",
                "count is more than there are weights",
                where=where,
                why=f"{self.count} of {elements}",
                hint="Use less, exclude the layer, or use scope=global.",
            )
        return self.count
