"""Made-up inputs for models as Transformers exports them: token numbers of the whole table, masks of ones, no past."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt.errors import DataError, NativeError, UsageError
from onnxopt.measure.runtime.session import Session
from onnxopt.model_file import Signature, TensorSpec, signature_of
from onnxopt.model_file.signature import IMAGE_SIDE, MOST_MADE_UP
from onnxopt.options.lengths import USUAL_LENGTH
from onnxopt.options.runtime import Runtime
from onnxopt.samples import Samples, open_samples
from onnxopt.samples.named import Drawn

COUNT = 64
LENGTH = 16
"""Steps of a sequence for comparisons."""
_FEWEST = 8
"""Fewest steps of a text of usual length."""
_SIZES: Mapping[str, int] = MappingProxyType(
    {"num_channels": 3, "channels": 3, "height": IMAGE_SIDE, "width": IMAGE_SIDE, "num_choices": 2}
)


@dataclass(frozen=True)
class MadeUp(Drawn):
    """Made-up inputs by the names of Transformers' exports.

    Attributes:
        signature: the signature of the model.
        rows: numbers that an input of token numbers may take, by its name.
        name: the name of the data.
        length: steps of a sequence.
        count: number of samples.
    """

    signature: Signature
    rows: Mapping[str, int]
    name: str = "made-up inputs"
    length: int = LENGTH
    count: int = COUNT
    labels: None = None

    def _feeds(self, seed: int) -> dict[str, np.ndarray]:
        rng = np.random.RandomState(seed)
        return {spec.name: self._draw(spec, rng) for spec in self.signature.inputs}

    def _draw(self, spec: TensorSpec, rng: np.random.RandomState) -> np.ndarray:
        shape = tuple(self._size(size, axis) for axis, size in enumerate((None,) if spec.shape is None else spec.shape))
        if np.prod(shape, dtype=np.float64) > MOST_MADE_UP:
            raise DataError("ONX203", "the inputs of the model are too large to generate", where=str(spec))
        if spec.dtype == "str":
            return np.full(shape, "a", dtype=object)
        if "float" in spec.dtype:
            return np.asarray(rng.standard_normal(shape)).astype(spec.dtype)
        return self._integers(spec, shape, rng).astype(spec.dtype)

    def _integers(self, spec: TensorSpec, shape: tuple[int, ...], rng: np.random.RandomState) -> np.ndarray:
        if "mask" in spec.name:
            return np.ones(shape)
        if spec.dtype == "bool" or "token_type" in spec.name:
            return np.zeros(shape)
        if "position" in spec.name:
            return np.broadcast_to(np.arange(shape[-1] if shape else 1), shape)
        return np.asarray(rng.randint(0, self.rows.get(spec.name, 2), shape))

    def _size(self, size: int | str | None, axis: int) -> int:
        if isinstance(size, int):
            return size
        name = (size or "").replace(" ", "")
        if axis == 0 and "seq" not in name:
            return 1
        if "past" in name and "+" not in name:
            return 0
        return 1 if name.endswith("+1") else _SIZES.get(name, self.length)


def made_up_samples(model: ir.Model, runtime: Runtime, limit: int | None = None) -> Samples:
    """Return made-up samples that the model runs on: by the names of its inputs, else as `random` draws them.

    Raises:
        UsageError: ONX114 it runs on neither.
        ModelError: ONX304 ONNX Runtime cannot load the model.
    """
    signature, why = signature_of(model), ""
    session = Session(model, runtime)
    for data in (MadeUp(signature, _rows(model)), "random"):
        try:
            samples = open_samples(data, signature, limit=limit)
            session.run(next(iter(samples.with_batch_size(1))))
        except (DataError, NativeError) as error:
            why = why or error.why or error.what
        else:
            return samples
    hint = "Give samples that it runs on with --data."
    raise UsageError("ONX114", "the baseline runs on no made-up input", why=why, hint=hint)


def usual_texts(model: ir.Model, runtime: Runtime, count: int = COUNT, name: str = "random") -> MadeUp | None:
    """Return made-up texts for timing a model: `USUAL_LENGTH` tokens, or the most that it runs on; no past.

    A model takes fewer where its table of positions is shorter.

    Returns:
        None for a model that takes no texts of free length, or runs on none of these.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
    """
    signature = signature_of(model)
    if not any(_is_text(spec) for spec in signature.inputs):
        return None
    rows, session = _rows(model), Session(model, runtime)
    for length in _lengths(model):
        texts = MadeUp(signature, rows, name, length, count)
        with suppress(DataError, NativeError):
            session.run(next(iter(open_samples(texts, signature, limit=1))))
            return texts
    return None


def _is_text(spec: TensorSpec) -> bool:
    """Return whether an input is token numbers, of a free length."""
    sizes = enumerate(spec.shape or ())
    free = any(not isinstance(size, int) and (axis > 0 or "seq" in (size or "")) for axis, size in sizes)
    return free and spec.dtype in ("int32", "int64")


def _lengths(model: ir.Model) -> list[int]:
    """Return lengths to try, longest first: the usual one, its halves, and the rows of shorter tables."""
    halves = {USUAL_LENGTH >> times for times in range(USUAL_LENGTH.bit_length())}
    tables = {int(size) for value in model.graph.initializers.values() for size in _table_sizes(value)}
    return sorted((n for n in halves | tables if _FEWEST <= n <= USUAL_LENGTH), reverse=True)


def _table_sizes(value: ir.Value) -> tuple[int, ...]:
    """Return the sizes of a weight's axes but the last."""
    return () if value.const_value is None else tuple(value.const_value.shape.numpy())[:-1]


def _rows(model: ir.Model) -> dict[str, int]:
    """Return the smallest number of rows of the tables that an input's numbers are looked up in, by input."""
    rows = dict[str, int]()
    for node in model.graph:
        table = node.inputs[0] if node.op_type == "Gather" and len(node.inputs) == 2 else None
        shape = None if table is None or table.const_value is None else tuple(table.const_value.shape.numpy())
        if shape is not None and len(shape) == 2 and not node.attributes.get_int("axis", 0):
            name = _source(node.inputs[1])
            rows[name] = min(rows.get(name, shape[0]), shape[0])
    return rows


def _source(value: ir.Value | None) -> str:
    """Return the name of the value that conversions and reshapes of whole numbers begin with."""
    while value is not None:
        node = value.producer()
        if node is None or node.op_type not in ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"):
            break
        value = node.inputs[0]
    return "" if value is None else value.name or ""
