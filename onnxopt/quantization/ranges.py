"""Ranges of activations, streamed: one batch of activations is alive at a time, whatever the number of samples.

Two sweeps over the samples: the first finds the extremes, the second fills one histogram of fixed size per tensor.
Every calibration method then works on those alone, so trying another method costs no further run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
import onnxruntime

from onnxopt.errors import DataError, ModelError, NativeError, first_line
from onnxopt.graph.shapes import with_types
from onnxopt.model_file import materialize
from onnxopt.quantization import calibrators
from onnxopt.quantization.histogram import BINS, Extremes, Histogram, Range
from onnxopt.samples import Samples

METHODS: Mapping[str, Callable[[Histogram], Range]] = MappingProxyType(
    {name: calibrators.METHODS[name] for name in ("minmax", "percentile", "entropy", "mse")}
)
"""Calibration methods worth trying first; the others are in `calibrators.METHODS`."""


def collect(model: ir.Model, names: Sequence[str], samples: Samples) -> dict[str, Histogram]:
    """Return the histogram of every float tensor in `names` over `samples`.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
        NativeError: ONX401 a run failed.
        DataError: ONX207 a tensor became NaN or infinite.
    """
    session, watched = _open(model, names)
    return _counted(session, samples, _extremes(session, watched, samples))


def extremes(model: ir.Model, names: Sequence[str], samples: Samples) -> dict[str, Extremes]:
    """Return the smallest and largest value of every float tensor in `names`: half the work of `collect`.

    Raises:
        ModelError, NativeError, DataError: as `collect`.
    """
    session, watched = _open(model, names)
    return _extremes(session, watched, samples)


def histograms(model: ir.Model, samples: Samples, found: Mapping[str, Extremes]) -> dict[str, Histogram]:
    """Return the histograms of the tensors whose extremes were found before, over the same samples.

    Raises:
        ModelError, NativeError: as `collect`.
    """
    session, _ = _open(model, list(found))
    return _counted(session, samples, found)


def _extremes(session: onnxruntime.InferenceSession, watched: Sequence[str], samples: Samples) -> dict[str, Extremes]:
    if not watched:
        return {}
    lows, highs = dict.fromkeys(watched, np.inf), dict.fromkeys(watched, -np.inf)
    low_sums, high_sums, runs = dict.fromkeys(watched, 0.0), dict.fromkeys(watched, 0.0), dict.fromkeys(watched, 0)
    for name, array in _activations(session, watched, samples):
        low, high = float(array.min()), float(array.max())
        lows[name], highs[name] = min(lows[name], low), max(highs[name], high)
        low_sums[name], high_sums[name], runs[name] = low_sums[name] + low, high_sums[name] + high, runs[name] + 1
        if not np.isfinite(low + high):
            raise DataError(
                "ONX207",
                "an activation is NaN or infinite for these samples",
                where=name,
                hint="Check that the samples are preprocessed as the model expects.",
            )
    return {n: Extremes(lows[n], highs[n], low_sums[n] / k, high_sums[n] / k) for n, k in runs.items() if k}


def _counted(
    session: onnxruntime.InferenceSession, samples: Samples, found: Mapping[str, Extremes]
) -> dict[str, Histogram]:
    if not found:
        return {}
    counts = {name: np.zeros(BINS, np.int64) for name in found}
    for name, array in _activations(session, list(found), samples):
        width = found[name].high - found[name].low
        scale = BINS / width if width > 0 else 0.0
        bins = ((array.ravel() - np.float32(found[name].low)) * np.float32(scale)).astype(np.int32)
        counts[name] += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)
    return {n: Histogram(e.low, e.high, e.mean_low, e.mean_high, counts[n]) for n, e in found.items()}


def _open(model: ir.Model, names: Sequence[str]) -> tuple[onnxruntime.InferenceSession, list[str]]:
    watching = with_types(model)
    wanted = set(names)
    outputs = {v.name for v in watching.graph.outputs}
    inputs = [v.name for v in watching.graph.inputs if v.name in wanted]
    for node in watching.graph:
        for value in node.outputs:
            if value.name in wanted and value.name not in outputs and value.dtype in (None, ir.DataType.FLOAT):
                watching.graph.outputs.append(value)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        with materialize(watching) as source:
            session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise ModelError("ONX304", "ONNX Runtime cannot calibrate the model", why=first_line(error)) from error
    given = {o.name for o in (*session.get_outputs(), *session.get_inputs()) if o.type == "tensor(float)"}
    order = [*inputs, *(o.name for o in session.get_outputs())]
    return session, [name for name in order if name in given and name in wanted]


def _activations(
    session: onnxruntime.InferenceSession, names: Sequence[str], samples: Samples
) -> Iterator[tuple[str, np.ndarray]]:
    fed = {i.name for i in session.get_inputs()}
    fetched = [name for name in names if name not in fed]
    for position, feeds in enumerate(samples):
        try:
            arrays = session.run(fetched, dict(feeds)) if fetched else []
        except Exception as error:  # see above
            if position == 0 and samples.batch_size > 1:
                # Some models declare a dynamic batch and only run at 1.
                yield from _activations(session, names, samples.with_batch_size(1))
                return
            raise NativeError("ONX401", "ONNX Runtime failed while calibrating", why=first_line(error)) from error
        for name in names:
            if name in fed and feeds[name].size:
                yield name, feeds[name]
        for name, array in zip(fetched, arrays, strict=True):
            if array.size:
                yield name, array
