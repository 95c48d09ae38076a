"""Values of a model in graph order over many sweeps; each sweep starts from the values kept by the last one."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.measure.runtime.activations import Activations, Arrays
from onnxopt.samples import Samples

LIMIT_BYTES = 1 << 29
"""Memory limit of kept values."""


class Replay:
    """Runs successive parts of a model on the same samples without computing earlier parts again.

    Args:
        samples: samples; read again only if values are computed from the inputs.
        limit_bytes: limit of kept values; if the next ones would exceed it, the earlier ones are kept.
    """

    def __init__(self, samples: Samples, limit_bytes: int = LIMIT_BYTES) -> None:
        self._samples, self._limit = samples, limit_bytes
        self._kept: list[Arrays] = []

    def of(self, model: ir.Model, names: Sequence[str], keep: Sequence[str] = ()) -> Iterator[Arrays]:
        """Yield values by name for each batch.

        Args:
            model: the model; its weights may change between calls, but only after the kept values.
            names: names of values.
            keep: values from which the next call starts: all later values must follow from them and the inputs.

        Raises:
            ModelError: ONX304 ONNX Runtime cannot load the model, or it has no value of this name.
            NativeError: ONX401 a run failed.
        """
        known = self._kept[0] if self._kept else {}
        part = Activations(starting_at(model, known, self._kept), list(dict.fromkeys((*names, *keep))))
        inputs = {v.name for v in model.graph.inputs}
        fresh = inputs.isdisjoint(part.needed)
        batches: Iterator[Mapping[str, np.ndarray]] = iter(
            self._kept if self._kept and fresh else _merged(self._samples, self._kept)
        )
        later, size = list[Arrays](), 0
        for arrays in part.of(batches):
            yield arrays
            later.append({name: arrays[name] for name in keep})
            size += sum(array.nbytes for array in later[-1].values())
            if size > self._limit:
                keep, later = (), []
        if keep:
            self._kept = later


def _merged(samples: Samples, kept: Sequence[Arrays]) -> Iterator[Mapping[str, np.ndarray]]:
    for number, feeds in enumerate(samples):
        yield {**feeds, **kept[number]} if kept else feeds


def starting_at(
    model: ir.Model, known: Mapping[str, np.ndarray], batches: Sequence[Mapping[str, np.ndarray]] = ()
) -> ir.Model:
    """Return a copy of `model` in which the values in `known` are inputs, with their type and rank.

    Sizes common to all `batches` become fixed, because operators such as Attention need some; other sizes cannot run.
    """
    copy = model.clone()
    values = {v.name: v for node in copy.graph for v in node.outputs}
    for name, array in known.items():
        old = values.get(name)
        if old is None:
            continue
        new = ir.Value(name=f"{name}__kept")
        new.type, new.shape = (
            ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            ir.Shape(common_shape([arrays[name].shape for arrays in batches]) if batches else [None] * array.ndim),
        )
        old.replace_all_uses_with(new)
        new.name, old.name = name, f"{name}__computed"
        copy.graph.inputs.append(new)
    return copy


def common_shape(shapes: Sequence[tuple[int, ...]]) -> list[int | None]:
    """Return the sizes that shapes have in common, None where they differ, and everywhere for different ranks."""
    first = shapes[0]
    if any(len(shape) != len(first) for shape in shapes):
        return [None] * len(first)
    return [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True)]


def live_values(model: ir.Model, position: int) -> tuple[str, ...]:
    """Return the values that nodes before `position` in graph order compute and later nodes read."""
    places = {node: number for number, node in enumerate(model.graph)}
    found = []
    for node in list(model.graph)[:position]:
        for value in node.outputs:
            if any(places.get(user, position) >= position for user, _ in value.uses()):
                found.append(value.name or "")
    return tuple(found)
