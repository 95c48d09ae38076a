"""Ranges of activations, streamed: only one batch of activations is in memory, for any number of samples.

Two sweeps over the samples: the first finds the extremes, the second fills one histogram of fixed size per tensor.
Every calibration method works on these statistics alone, so another method needs no further run.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import isfinite
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
import onnxruntime

from onnxopt import model_file
from onnxopt.errors import ModelError, NativeError, first_line
from onnxopt.graph.shapes import with_types
from onnxopt.measure.runtime.interrupt import raise_if_interrupted, run_options
from onnxopt.measure.runtime.overdue import in_time
from onnxopt.measure.runtime.session import copied_one_by_one, failures_named
from onnxopt.measure.runtime.unused import without_work
from onnxopt.model_file import materialize
from onnxopt.model_file.heap import without_collections
from onnxopt.model_file.memory import IN_MEMORY_BYTES, weight_bytes
from onnxopt.quantization.calibration import calibrators
from onnxopt.quantization.calibration.histogram import BINS, Extremes, Histogram, Range
from onnxopt.quantization.calibration.spread import EXPONENTS, Spread, octaves_of
from onnxopt.samples import Feeds, Samples

MOST_BYTES = 1 << 26
"""Most bytes of activations that one run gives out, of more than one sample."""

METHODS: Mapping[str, Callable[[Histogram], Range]] = MappingProxyType(
    {name: calibrators.METHODS[name] for name in ("minmax", "percentile", "entropy", "mse")}
)
"""Calibration methods worth trying first; the others are in `calibrators.METHODS`."""


class Watch:
    """A model that gives out inner values, in one session that is opened when it is needed.

    Args:
        model: the model.
        names: names of the tensors to give out.
        typed: whether types of values are known in `model`.
    """

    def __init__(self, model: ir.Model, names: Collection[str], *, typed: bool = False) -> None:
        self._model, self._names, self._data = model if typed else with_types(model), set(names), b""
        self._outputs = [value.name or "" for value in self._model.graph.outputs]
        self._opened: tuple[onnxruntime.InferenceSession, list[str]] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a session."""
        return self._opened is not None

    def close(self) -> None:
        """Give up the session, which holds a copy of the weights."""
        self._opened, self._data = None, b""

    def outputs(self, samples: Samples) -> list[dict[str, object]]:
        """Return the outputs of the model by name, sample after sample.

        Raises:
            ModelError: ONX304 ONNX Runtime cannot load the model.
            NativeError: ONX401 a run failed.
        """
        session, _ = self.opened()
        return [dict(zip(self._outputs, _ran(session, self._outputs, feeds), strict=True)) for feeds in samples]

    def digest(self) -> str:
        """Return the SHA-256 of the model; a small one is serialized once for this and for its session."""
        if weight_bytes(self._model) > IN_MEMORY_BYTES:
            return model_file.digest(self._model)
        with _given_out(self._model.graph, self._names):
            self._data = model_file.to_bytes(self._model)
        return hashlib.sha256(self._data).hexdigest()

    def opened(self) -> tuple[onnxruntime.InferenceSession, list[str]]:
        """Return the session, and the names of the float tensors that it takes and gives.

        Raises:
            ModelError: ONX304 ONNX Runtime cannot load the model.
        """
        if self._opened is None:
            self._opened, self._data = self._open(), b""
        return self._opened

    @without_collections()
    def _open(self) -> tuple[onnxruntime.InferenceSession, list[str]]:
        inputs = [v.name for v in self._model.graph.inputs if v.name in self._names]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # In its own layout of convolutions the runtime would convert every activation back, and hold both.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        idle = without_work({node.op_type for node in self._model.graph.all_nodes()})
        options.add_session_config_entry("optimization.disable_specified_optimizers", ";".join(idle))
        try:
            with _given_out(self._model.graph, self._names), self._source() as source:
                session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common base class for its errors
            raise ModelError("ONX304", "ONNX Runtime cannot calibrate the model", why=first_line(error)) from error
        given = {o.name for o in (*session.get_outputs(), *session.get_inputs()) if o.type == "tensor(float)"}
        order = [*inputs, *(o.name for o in session.get_outputs())]
        return session, [name for name in order if name in given and name in self._names]

    def _source(self) -> AbstractContextManager[bytes | str]:
        return nullcontext(self._data) if self._data else materialize(self._model)


def extremes(
    model: ir.Model, names: Sequence[str], samples: Samples, *, watch: Watch | None = None
) -> dict[str, Extremes]:
    """Return the smallest and largest finite value of every float tensor in `names`.

    A tensor without any finite value, such as an empty one, is left out.

    Args:
        model: the model.
        names: names of tensors.
        samples: samples to run it on.
        watch: gives out these tensors of it; made here by default.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
        NativeError: ONX401 a run failed.
    """
    session, watched = (watch or Watch(model, names)).opened()
    return _extremes(session, watched, samples)


def histograms(
    model: ir.Model, samples: Samples, found: Mapping[str, Extremes], *, watch: Watch | None = None
) -> dict[str, Histogram]:
    """Return the histograms of tensors with known extremes, over the same samples.

    Args:
        model: the model.
        samples: samples to run it on.
        found: extremes by name of the tensor.
        watch: as in `extremes`; it may give out more tensors.

    Raises:
        ModelError, NativeError: as `extremes`.
    """
    session, _ = (watch or Watch(model, found)).opened()
    return _counted(session, samples, found)


class _Watched:
    """The streamed statistics of one tensor."""

    def __init__(self) -> None:
        self.lows, self.highs = list[float](), list[float]()
        self._octaves = np.zeros(EXPONENTS, np.int64)
        self._infinite = self._missing = 0

    def add(self, array: np.ndarray) -> None:
        """Count the values of one run."""
        low, high = float(array.min()), float(array.max())
        if not isfinite(low + high):
            finite, missing = np.isfinite(array), int(np.count_nonzero(np.isnan(array)))
            self._missing += missing
            self._infinite += int(array.size - np.count_nonzero(finite)) - missing
            array = array[finite]
            if not array.size:
                return
            low, high = float(array.min()), float(array.max())
        self.lows.append(low)
        self.highs.append(high)
        self._octaves += octaves_of(array)

    def extremes(self) -> Extremes:
        """Return the observed extremes; there must have been a finite value."""
        lows, highs = np.array(self.lows), np.array(self.highs)
        spread = Spread(self._octaves, lows, highs, self._infinite, self._missing)
        return Extremes(*map(float, (lows.min(), highs.max(), lows.mean(), highs.mean())), spread=spread)


def _extremes(session: onnxruntime.InferenceSession, watched: Sequence[str], samples: Samples) -> dict[str, Extremes]:
    seen = {name: _Watched() for name in watched}
    for name, array in _activations(session, watched, samples):
        seen[name].add(array)
    return {name: one.extremes() for name, one in seen.items() if one.lows}


def _counted(
    session: onnxruntime.InferenceSession, samples: Samples, found: Mapping[str, Extremes]
) -> dict[str, Histogram]:
    if not found:
        return {}
    counts = {name: np.zeros(BINS, np.int64) for name in found}
    for name, array in _activations(session, list(found), samples):
        counts[name] += _bins(array.ravel(), found[name].low, found[name].high)
    return {n: Histogram(e.low, e.high, e.mean_low, e.mean_high, counts[n], spread=e.spread) for n, e in found.items()}


def _bins(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the counts of values in equal bins over [low, high]; outside values and NaN are left out."""
    if not (values.min() >= low and values.max() <= high):
        values = values[(values >= low) & (values <= high)]
    width = high - low
    scale = BINS / width if width > 0 else 0.0
    # Rounded to float32 unless one of them is none, so that arrays of float32 keep their type.
    fits = max(width, scale) <= float(np.finfo(np.float32).max)
    begin, steps = (np.float32(low), np.float32(scale)) if fits else (np.float64(low), np.float64(scale))
    bins = ((values - begin) * steps).astype(np.int32)
    return np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)


@contextmanager
def _given_out(graph: ir.Graph, wanted: Collection[str]) -> Iterator[None]:
    """Make inner float values outputs within the context: a copy of the graph would take longer than its session."""
    own = {v.name for v in graph.outputs}
    values = (v for node in graph for v in node.outputs if v.name in wanted and v.name not in own)
    more = [v for v in values if v.dtype in (None, ir.DataType.FLOAT)]
    graph.outputs.extend(more)
    try:
        yield
    finally:
        for _ in more:
            graph.outputs.pop()


def _ran(session: onnxruntime.InferenceSession, names: Sequence[str], feeds: Feeds) -> Sequence[object]:
    raise_if_interrupted()
    options = run_options() or onnxruntime.RunOptions()
    with in_time(options), failures_named(feeds):
        ran: Sequence[object] = session.run(names, dict(feeds), options)
    return ran


def _activations(
    session: onnxruntime.InferenceSession, names: Sequence[str], samples: Samples
) -> Iterator[tuple[str, np.ndarray]]:
    fed = {i.name for i in session.get_inputs()}
    fetched = [name for name in names if name not in fed]
    for position, feeds in enumerate(_in_memory(session, fetched, samples)):
        raise_if_interrupted()
        options = run_options() or onnxruntime.RunOptions()
        try:
            with in_time(options):
                arrays = copied_one_by_one(session, fetched, feeds, options)
        except NativeError:
            raise
        except Exception as error:  # see above
            raise_if_interrupted()
            single = samples.with_batch_size(1)
            if position == 0 and single.batch_size < samples.batch_size:  # not where the model fixes it
                # Some models declare a dynamic batch but run only at 1.
                yield from _activations(session, names, single)
                return
            raise NativeError("ONX401", "ONNX Runtime failed while calibrating", why=first_line(error)) from error
        for name in names:
            if name in fed and feeds[name].size:
                yield name, feeds[name]
        for name, array in zip(fetched, arrays, strict=True):
            if array.size:
                yield name, array


def _in_memory(session: onnxruntime.InferenceSession, names: Sequence[str], samples: Samples) -> Samples:
    """Return the samples in batches whose activations take at most `MOST_BYTES`, or one by one."""
    single = samples.take(1).with_batch_size(1)
    if single.batch_size == samples.batch_size or not names:
        return samples
    options = run_options() or onnxruntime.RunOptions()
    try:
        with in_time(options):
            size = sum(array.nbytes for array in copied_one_by_one(session, names, next(iter(single)), options))
    except NativeError:
        raise
    except Exception:  # it may run at another batch size; if not, that is reported
        raise_if_interrupted()
        return samples
    return samples.with_batch_size(min(samples.batch_size, max(MOST_BYTES // max(size, 1), 1)))
