"""Output losses of passes, measured once, on any available worker."""

from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from onnxopt.catalog import format_pass, format_passes
from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.latency.remembered import Remembered, is_number
from onnxopt.measure.output_error import OutputError
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.reconstruction.batches import rebatched
from onnxopt.search.evidence import evidence_key

Base = tuple[Pass, ...]
"""Passes that make the model, from the original, whose outputs are compared."""


class Losses(Protocol):
    """Tells what passes do to the outputs."""

    def __call__(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Return by pass the mean squared difference of the outputs over their variance; infinite where it fails.

        Args:
            base: made of the original first, and what the outputs are compared with.
            specs: each is run alone on what `base` makes.
        """


class MeasuredLosses:
    """Measures in this process; what `base` makes is kept for the next call."""

    def __init__(self, model: ir.Model, context: Context, progress: Callable[[int, int], None] | None = None) -> None:
        self._model, self._context, self._progress = model, context, progress
        self._bases = dict[str, tuple[ir.Model, OutputError]]()

    def __call__(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Run each pass and compare."""
        found = []
        for number, spec in enumerate(specs):
            if self._progress is not None:
                self._progress(number, len(specs))
            found.append(self._of(base, spec))
        return found

    def _of(self, base: Base, spec: Pass) -> float:
        try:
            made, error = self._made(base)
            return error.of(Pipeline((spec,)).run(made, self._context).model)
        except (ModelError, NativeError):
            return inf

    def _made(self, base: Base) -> tuple[ir.Model, OutputError]:
        name = format_passes(base)
        if name not in self._bases:
            made = Pipeline(base).run(self._model, self._context).model
            samples = rebatched(made, self._context.calibration) or self._context.calibration
            assert samples is not None
            self._bases[name] = (made, OutputError(made, samples))
        return self._bases[name]


class CachedLosses:
    """Looks losses up, and asks for those that are not known.

    Args:
        ask: measures.
        model: the original.
        context: of the passes.
        folder: where losses are kept; None for nowhere.
    """

    def __init__(self, ask: Losses, model: ir.Model, context: Context, folder: Path | None) -> None:
        self._ask = ask
        self._key = None if folder is None else evidence_key(model, context)
        path = None if folder is None or self._key is None else folder / "losses.json"
        self._known = Remembered[float](path, is_number)

    def __call__(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Return what is known or measured now."""
        keys = [f"{self._key} {format_passes(base)} {format_pass(spec)}" for spec in specs]
        fresh = {key: spec for key, spec in zip(keys, specs, strict=True) if key not in self._known}
        asked = self._ask(base, list(fresh.values())) if fresh else []
        found = dict(zip(fresh, asked, strict=True))
        self._known.keep({key: loss for key, loss in found.items() if is_number(loss)})
        return [found[key] if key in found else self._known[key] for key in keys]
