"""The signature of a model: names, types and shapes of inputs and outputs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.errors import DataError

MOST_MADE_UP = 1 << 30
"""Numbers in one made-up input; larger ones are a fault in the file."""

IMAGE_SIDE = 224
"""Height and width of made-up images where a model takes any: at some pixels many networks do not run."""

Dim = int | str | None
"""A fixed size, a named dynamic size, or an unknown one."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy type name and shape of one model input or output; `shape` is None when the rank is unknown."""

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.name}: {self.dtype}[...]"
        return f"{self.name}: {self.dtype}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"


@dataclass(frozen=True)
class Signature:
    """The inputs a caller must feed and the outputs it gets, in graph order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __str__(self) -> str:
        return "; ".join(str(spec) for spec in self.inputs)


def _spec(value: ir.Value) -> TensorSpec:
    dtype = "object"
    if value.dtype is ir.DataType.STRING:
        dtype = "str"
    elif value.dtype is not None and isinstance(value.type, ir.TensorType):
        dtype = value.dtype.numpy().name
    shape: tuple[Dim, ...] | None = None
    if value.shape is not None:
        # Some exporters write -1 for a dynamic size.
        shape = tuple((d if d >= 0 else None) if isinstance(d, int) else d.value for d in value.shape)
    return TensorSpec(value.name or "", dtype, shape)


def signature_of(model: ir.Model) -> Signature:
    """Return the inputs and outputs of `model`; inputs that have an initializer are weights, not inputs."""
    graph = model.graph
    fed = [v for v in graph.inputs if v.name not in graph.initializers]
    return Signature(tuple(map(_spec, fed)), tuple(map(_spec, graph.outputs)))


def probe_feeds(
    signature: Signature, *, seed: int = 0, dynamic: int = 2, sizes: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """Return one deterministic batch of made-up inputs, to run a model without data.

    Args:
        signature: the signature of the model to feed.
        seed: the seed of the generator.
        dynamic: size given to every dynamic dimension.
        sizes: sizes for named dynamic dimensions, over `dynamic`.

    Floats are standard normal; integers and booleans are 0 or 1, which every embedding table accepts.

    Raises:
        DataError: ONX203 the model states inputs that no memory holds.
    """
    rng = np.random.RandomState(seed)
    feeds: dict[str, np.ndarray] = {}
    for spec in signature.inputs:
        dims = spec.shape if spec.shape is not None else (None,)
        shape = tuple(d if isinstance(d, int) else (sizes or {}).get(d or "", dynamic) for d in dims)
        if math.prod(shape) > MOST_MADE_UP:
            raise DataError(
                "ONX203",
                "the inputs of the model are too large to generate",
                where=str(spec),
                hint="Check the sizes that the model states; give data of your own.",
            )
        if spec.dtype == "str":
            feeds[spec.name] = np.full(shape, "a", dtype=object)
        elif np.issubdtype(np.dtype(spec.dtype), np.floating) or spec.dtype in ("bfloat16",):
            feeds[spec.name] = np.asarray(rng.standard_normal(shape)).astype(spec.dtype)
        else:
            feeds[spec.name] = np.asarray(rng.randint(0, 2, size=shape)).astype(spec.dtype)
    return feeds
