"""Building of candidates; the simplified graph at the start of most candidates is built once."""

from dataclasses import replace

import onnx_ir as ir

from onnxopt.model_file import keep_on_disk, share_weights
from onnxopt.model_file.heap import trim_heap
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Optimized, Pass, Pipeline


class Preparation:
    """Builds candidates of one model.

    Args:
        model: the baseline.
        context: context of the passes.
    """

    def __init__(self, model: ir.Model, context: Context) -> None:
        self._model, self._context = model, context
        self._simplified = dict[Simplify, Optimized]()

    def run(self, passes: tuple[Pass, ...]) -> Optimized:
        """Return the same result as a pipeline of all passes, its large weights on disk; raises its errors."""
        made = self._run(passes)
        return replace(made, model=keep_on_disk(made.model))

    def _run(self, passes: tuple[Pass, ...]) -> Optimized:
        first, rest = passes[0] if passes else None, passes[1:]
        if not isinstance(first, Simplify) or not rest:
            return Pipeline(passes).run(self._model, self._context)
        if first not in self._simplified:
            made = Pipeline((first,)).run(self._model, self._context)
            share_weights(made.model, *(other.model for other in self._simplified.values()))
            self._simplified[first] = replace(made, model=keep_on_disk(made.model))
        begun = self._simplified[first]
        context = replace(self._context, teacher=self._context.teacher or self._model)
        made = Pipeline(rest).run(begun.model, context)
        trim_heap()
        return Optimized(made.model, (*begun.steps, *made.steps))
