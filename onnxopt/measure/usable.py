"""Samples usable for judging: those for which the baseline gives no NaN."""

from collections.abc import Sequence

import numpy as np

from onnxopt.errors import DataError
from onnxopt.measure.fidelity import sample_count
from onnxopt.measure.known_outputs import KnownOutputs, run_batches
from onnxopt.measure.metrics.outputs import nan_rows
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Session
from onnxopt.samples import Samples


def without_nan(
    baseline: Session | KnownOutputs, samples: Samples, names: Sequence[str] | None
) -> tuple[Samples, tuple[int, ...]]:
    """Return the samples for which the baseline gives no NaN, and the positions of the others in the data.

    Args:
        baseline: the reference model.
        samples: all samples.
        names: names of the judged outputs; None for all.

    Raises:
        DataError: ONX207 the baseline gives NaN for more than half of them.
        NativeError: ONX401 the baseline cannot be run.
    """

    def work() -> np.ndarray:
        marks = [nan_rows(o, sample_count(batch), names) for batch, o in run_batches(baseline, samples)]
        return np.concatenate(marks)

    nan = interruptible(work)
    if not nan.any():
        return samples, ()
    if nan.mean() > 0.5:
        raise DataError(
            "ONX207",
            "the baseline gives NaN for most of these samples",
            where=f"{int(nan.sum())} of {len(nan)} samples",
            hint="Check that the samples are preprocessed as the model expects; `onnxopt check` names weights that are "
            "NaN or infinite.",
        )
    return samples.select(samples.indices[~nan]), tuple(int(i) for i in samples.indices[nan])
