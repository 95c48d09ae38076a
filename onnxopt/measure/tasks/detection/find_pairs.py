"""Recognition of outputs of boxes and of class scores with a row per place or query."""

import numpy as np

from onnxopt.measure.metrics.outputs import are_probabilities
from onnxopt.measure.tasks.detection.evidence import (
    FEWEST_ROWS,
    Finding,
    OutputView,
    are_centers,
    are_corners,
    within_one,
)
from onnxopt.measure.tasks.detection.pairs import Detr, Pair, UltraFace, ultraface_priors
from onnxopt.samples.core import Array


def detr(view: OutputView, named: bool) -> Finding | None:
    """Find logits and boxes of queries."""
    for boxes, scores in _pairs(view):
        values, logits = view.outputs[boxes].astype(np.float64), view.outputs[scores].astype(np.float64)
        words = "logit" in scores.lower() and "box" in boxes.lower()
        unlike = not within_one(logits) and within_one(values) and are_centers(values, view.image)
        if named or (unlike and (words or _ends(view, boxes) == "Sigmoid")):
            # The last class, "no object", wins in nearly all rows; models with a sigmoid have no such class.
            softmax = bool((logits.argmax(axis=-1) == logits.shape[-1] - 1).mean() > 0.5) and logits.shape[-1] > 1
            found = Detr(boxes, scores, -1 if softmax else None, centers=True, softmax=softmax)
            return found, f"{scores!r} are logits and {boxes!r} centers and sizes of as many queries"
    return None


def _ends(view: OutputView, name: str) -> str | None:
    facts = view.facts.outputs.get(name)
    return facts.ends[0] if facts is not None and facts.ends else None


def _pairs(view: OutputView) -> list[tuple[str, str]]:
    """Return pairs of an output of boxes and an output of equally many rows of scores."""
    tables = {n: v for axes in (3, 4) for n, v in view.floats(axes).items() if axes == 3 or v.shape[2] == 1}
    return [
        (boxes, scores)
        for boxes, value in tables.items()
        for scores, other in tables.items()
        if boxes != scores and value.shape[-1] == 4 and value.shape[1] == other.shape[1] > 1 and other.ndim == 3
    ]


def pair(view: OutputView, named: bool, only: type[Pair] = Pair) -> Finding | None:
    """Find boxes and probabilities of places, decoded or relative to known priors."""
    image = view.image
    for boxes, scores in _pairs(view):
        values, shares = view.outputs[boxes].astype(np.float64), view.outputs[scores].astype(np.float64)
        if not named and (not within_one(shares) or shares.shape[1] < FEWEST_ROWS):
            continue
        background = _background(shares)
        reason = f"{scores!r} are probabilities of {shares.shape[1]} places and {boxes!r} their boxes"
        known = image is not None and shares.shape[1] == len(ultraface_priors(*image))
        raw = only is UltraFace or (known and not are_corners(values, image))
        if raw and known and image is not None:
            return UltraFace(boxes, scores, background, image=image), f"{reason}, relative to UltraFace's priors"
        if only is UltraFace:
            continue
        if are_corners(values, image) or (named and not are_centers(values, image)):
            return Pair(boxes, scores, background), reason
        if are_centers(values, image):
            return Pair(boxes, scores, background, centers=True), f"{reason}, as centers and sizes"
    return None


def _background(scores: Array) -> int | None:
    """Return the column that wins in most places and completes rows to a sum of one; None without one."""
    if scores.shape[-1] < 2 or not are_probabilities(scores):
        return None
    wins = scores.argmax(axis=-1)
    return -1 if (wins == scores.shape[-1] - 1).mean() > 0.5 else 0


def ultraface(view: OutputView, named: bool) -> Finding | None:
    """Find a pair whose boxes are relative to UltraFace's priors."""
    return pair(view, named, UltraFace)
