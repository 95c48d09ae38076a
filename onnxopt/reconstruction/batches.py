"""Calibration samples in batches, some of which can be held out."""

import onnx_ir as ir

from onnxopt.errors import NativeError
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.samples import Samples

_BATCHES = 16
"""Fewest batches of calibration samples, so that some can be held out."""
_LARGEST_BATCH = 32


def rebatched(model: ir.Model, samples: Samples | None) -> Samples | None:
    """Return the samples in enough batches to hold some out; None if there are fewer than two."""
    if samples is None or len(samples) < 2:
        return None
    wanted = samples.with_batch_size(min(max(len(samples) // _BATCHES, 1), _LARGEST_BATCH))
    if wanted.batch_size > 1:
        try:
            Session(model, Runtime(optimization="none")).run(next(iter(wanted)))
        except NativeError:
            # Some models declare a dynamic batch and run only at 1.
            wanted = samples.with_batch_size(1)
    return wanted
