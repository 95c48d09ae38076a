"""The padding mask among the inputs of a language model."""

import numpy as np

from onnxopt.errors import nearest
from onnxopt.measure.metrics.outputs import misfit
from onnxopt.measure.tasks.evidence import named_like, token_inputs
from onnxopt.samples import Feeds


def mask_of(feeds: Feeds, shape: tuple[int, ...], given: str | None) -> str | None:
    """Return the input `(n, steps)` that is 0 at padding; None without one.

    Args:
        feeds: a batch of inputs.
        shape: shape of the steps.
        given: name of the input, from the user.

    Raises:
        DataError: ONX209 the user's name is not an input, or the input has another shape.
    """
    if given is not None:
        if given not in feeds:
            raise misfit("the model has no such input", nearest(given, feeds), where=given)
        if np.shape(feeds[given]) != shape:
            why = f"a mask of shape {list(np.shape(feeds[given]))} for steps of shape {list(shape)}"
            raise misfit(why, "Name the input with one number per step.", where=given)
        return given
    for name, array in token_inputs(feeds).items():
        if named_like(name, ("mask",)) and array.shape == shape and array.max(initial=0) <= 1:
            return name
    return None


def kept_steps(feeds: Feeds, mask: str | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return which steps are not padding: all steps without a mask of this shape."""
    given = None if mask is None else feeds.get(mask)
    if given is None or np.shape(given) != shape:
        return np.ones(shape, dtype=bool)
    return np.asarray(np.asarray(given) != 0)
