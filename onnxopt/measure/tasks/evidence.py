"""Evidence for several tasks: the last operators of the graph, names, and the sizes of inputs."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, chosen, is_float, misfit
from onnxopt.measure.tasks.task import ModelFacts
from onnxopt.samples import Feeds

COLOURS = (1, 3, 4)
_MOVES = frozenset(
    (
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Slice",
        "Cast",
        "CastLike",
        "DequantizeLinear",
        "Identity",
    )
)


def ends_of(facts: ModelFacts, name: str) -> tuple[str, ...]:
    """Return the operator types that compute an output, the last first; empty if unknown.

    Data movement is left out: a Transpose after a Softmax does not change the evidence.
    """
    ends = facts.outputs[name].ends if name in facts.outputs else ()
    return tuple(operator for operator in ends if operator not in _MOVES)


def declared_shape(facts: ModelFacts, name: str) -> tuple[int | str | None, ...] | None:
    """Return the declared dimensions of an output; None if unknown."""
    return facts.outputs[name].shape if name in facts.outputs else None


def only_output(outputs: Outputs, names: Sequence[str], fits: Callable[[Any], bool], what: str) -> str:
    """Return the only output of `names` (of all outputs, if it is empty) that fits.

    Raises:
        DataError: ONX209 no output fits, or several do; only one of them would be judged.
    """
    given = {name: chosen(outputs, name) for name in names or outputs}
    fitting = [name for name, value in given.items() if fits(value)]
    if len(fitting) > 1:
        why, hint = f"several outputs have the shape of {what}: {', '.join(fitting)}", "Name one with --output."
        raise misfit(why, hint, where=fitting[0])
    if not fitting:
        raise misfit(f"no output has the shape of {what}", f"Outputs: {', '.join(given)}.", where=", ".join(given))
    return fitting[0]


def named_like(name: str, words: Iterable[str]) -> bool:
    """Return whether a part of a name begins with one of `words`: `seg_logits` begins with `seg`, `msgseg` does not."""
    parts = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    return any(part.startswith(word) for part in parts for word in words)


def image_sizes(feeds: Feeds) -> tuple[tuple[int, int], ...]:
    """Return height and width of every input image, `(n, channels, H, W)` or `(n, H, W, channels)`."""
    sizes = []
    for value in feeds.values():
        shape = np.shape(value)
        if len(shape) == 4 and min(shape) > 0:
            first = shape[1] in COLOURS or shape[3] not in COLOURS
            sizes.append((shape[2], shape[3]) if first else (shape[1], shape[2]))
    return tuple(sizes)


def float_inputs(feeds: Feeds) -> dict[str, np.ndarray]:
    """Return the inputs that hold floating-point numbers."""
    return {name: np.asarray(value) for name, value in feeds.items() if is_float(np.asarray(value))}


def token_inputs(feeds: Feeds) -> dict[str, np.ndarray]:
    """Return the inputs `(n, steps)` of whole numbers."""
    arrays = {name: np.asarray(value) for name, value in feeds.items()}
    return {name: array for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "iub"}
