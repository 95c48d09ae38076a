"""Checks of a changed graph before a pass keeps it: equal outputs and less time."""

import onnx_ir as ir

from onnxopt.errors import NativeError, OnnxoptError
from onnxopt.measure.equivalence import largest_difference, runnable
from onnxopt.measure.latency import measure_latency
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import probe_feeds, signature_of
from onnxopt.samples import Feeds, Samples

PROVED = 1e-4
PROVED_HALF = 4e-3
"""The limit for float16 weights: a product is rounded once, a chain of two twice."""
_SECONDS, _EPOCHS, _FEWEST_ROUNDS = 2.0, 4, 8


def one_sample(model: ir.Model, samples: Samples | None) -> Feeds:
    """Return the first sample, or a generated one; several if the model fixes its batch size."""
    if samples is not None and len(samples):
        return next(iter(samples if samples.fixed_batch else samples.with_batch_size(1)))
    return probe_feeds(signature_of(model), dynamic=1)


def prove(wanted: ir.Model, result: ir.Model, feeds: Feeds, limit: float = PROVED) -> tuple[float, str]:
    """Return the difference of the result from the wanted outputs, and the reason against keeping it; "" for none."""
    batches = runnable(wanted, signature_of(wanted), [feeds, probe_feeds(signature_of(wanted), seed=1)])
    if not batches:
        return 0.0, "the model runs on no generated input, so equality cannot be proved"
    try:
        difference = largest_difference(wanted, result, batches)
    except OnnxoptError as error:
        return 0.0, f"not kept: {error.why or error.what}".replace("\n", " ")
    return difference, "" if difference <= limit else f"not kept: its outputs differ by {difference:.1e}"


def time_shares(before: ir.Model, after: dict[str, ir.Model], feeds: Feeds) -> tuple[dict[str, float], str]:
    """Return the time of each model as a share of `before`'s; empty if they cannot be measured, with the reason."""
    try:
        timed = measure_latency(
            {"": before, **after},
            [feeds],
            Runtime(),
            seconds=_SECONDS,
            epochs=_EPOCHS,
            min_rounds=_FEWEST_ROUNDS,
        )
    except NativeError as error:
        return {}, f"not verified to be faster: {error.why or error.what}"
    speedups = {name: timed[name].speedup for name in after}
    unsure = next((timed[name].unsure for name in after if timed[name].unsure), "")
    shares = {name: 1 / speedup.value for name, speedup in speedups.items() if speedup is not None}
    return shares, f"not verified to be faster: {unsure}" if unsure else ""


def time_share(before: ir.Model, after: ir.Model, feeds: Feeds) -> tuple[float | None, str]:
    """Return the time of a model as a share of another's; None if it cannot be measured, with the reason."""
    shares, note = time_shares(before, {"after": after}, feeds)
    return shares.get("after"), note
