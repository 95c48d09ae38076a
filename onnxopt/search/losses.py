"""Output losses of passes, measured once, on any available worker."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.catalog import format_pass, format_passes
from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.latency.remembered import Remembered, is_duration
from onnxopt.measure.output_error import OutputError
from onnxopt.measure.runtime.environment import environment
from onnxopt.passes.quantize_static import QDQ_OPSET, QuantizeStatic
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.reconstruction.batches import rebatched
from onnxopt.search.candidates import Quantizer

Base = tuple[Pass, ...]
"""Passes that build the reference model of a comparison from the baseline."""


_SAMPLES = 32
"""Samples whose outputs are compared: losses are summed over all outputs of them."""


class Losses(Protocol):
    """Measures the output losses of passes."""

    def __call__(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Return the mean squared difference of the outputs over their variance, by pass; infinite for a failed pass.

        Args:
            base: passes that build the reference model from the baseline.
            specs: passes, each applied alone to the reference model.
        """


class MeasuredLosses:
    """Measures in this process; keeps the reference model for the next call."""

    def __init__(self, model: ir.Model, context: Context, progress: Callable[[int, int], None] | None = None) -> None:
        self._model, self._context, self._progress = model, context, progress
        self._bases = dict[str, tuple[ir.Model, OutputError]]()

    def __call__(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Run each pass and compare the outputs."""
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
            made = _upgraded(Pipeline(base).run(self._model, self._context).model)
            samples = rebatched(made, self._context.calibration) or self._context.calibration
            assert samples is not None
            self._bases[name] = (made, OutputError(made, samples.take(min(_SAMPLES, len(samples)))))
        return self._bases[name]


def _upgraded(model: ir.Model) -> ir.Model:
    """Return the model at the opset of quantization, which each pass would raise again; as it is where that fails."""
    try:
        return model_file.upgrade_opset(model, QDQ_OPSET)
    except ModelError:
        return model


class CachedLosses:
    """Reads cached losses, and measures the others.

    Args:
        ask: measures losses.
        model: the baseline.
        context: context of the passes.
        folder: cache folder of losses; None for no cache.
    """

    def __init__(self, ask: Losses, model: ir.Model, context: Context, folder: Path | None) -> None:
        self._ask = ask
        self._key = None if folder is None else evidence_key(model, context)
        path = None if folder is None or self._key is None else folder / "losses.json"
        self._known = Remembered[float](path, is_duration)

    def __call__(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Return cached and measured losses."""
        keys = [f"{self._key} {format_passes(base)} {format_pass(spec)}" for spec in specs]
        fresh = {key: spec for key, spec in zip(keys, specs, strict=True) if key not in self._known}
        measured = self._ask(base, list(fresh.values())) if fresh else []
        found = dict(zip(fresh, measured, strict=True))
        self._known.keep({key: loss for key, loss in found.items() if is_duration(loss)})
        return [found[key] if key in found else self._known[key] for key in keys]


def evidence_key(model: ir.Model, context: Context, *words: str) -> str | None:
    """Return a checksum of a model, the samples, the target, the versions and `words`; None for a model too large.

    Losses depend on the machine only by rounding; the instruction set is part of the target.
    """
    if context.calibration is None or not model_file.fits_protobuf(model):
        return None
    digest = hashlib.sha256(model_file.digest(model).encode())
    versions = sorted(environment()["versions"].items())
    for part in (context.calibration.fingerprint, context.target.name, str(context.seed), str(versions), *words):
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()


def losses_of(
    spec: Quantizer, base: Base, sets: Sequence[Sequence[str]], quantized: Sequence[str], losses: Losses
) -> list[float]:
    """Return the loss of each set of layers in INT8 with all others in float; infinite for one that cannot be.

    Args:
        spec: the quantization; its own exclusions are ignored.
        base: passes before it.
        sets: names of layers, after `base`.
        quantized: names of all nodes that `spec` quantizes.
        losses: measures losses.
    """

    def alone(some: Sequence[str]) -> Pass:
        others = tuple(name for name in quantized if name not in some)
        if isinstance(spec, QuantizeStatic):
            return replace(spec, placement="all", min_sqnr_db=0, exclude=others)
        return replace(spec, exclude=others)

    return losses(base, [alone(some) for some in sets])
