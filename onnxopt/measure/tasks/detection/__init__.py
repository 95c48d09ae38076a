"""Detection: boxes with classes and scores, judged by average precision as COCO defines it."""

from collections.abc import Sequence

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs, misfit
from onnxopt.measure.tasks.detection.agreement import DetectionAgreement
from onnxopt.measure.tasks.detection.evidence import Finding, OutputView, image_size
from onnxopt.measure.tasks.detection.recognition import LAYOUTS, find, named_layout
from onnxopt.measure.tasks.task import ModelFacts, Recognized, TaskOptions
from onnxopt.samples import Feeds

__all__ = ["LAYOUTS", "comparison", "recognize"]


def recognize(outputs: Outputs, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> Recognized | None:
    """Return detection where outputs have the layout of a detector, or `options.decode` names one; else None.

    Raises:
        UsageError: ONX102 no layout has the name in `options.decode`.
        DataError: ONX209 the outputs cannot have the layout named.
    """
    image = image_size(feeds)
    # Without an image as input the model is no detector, whatever the form of its table.
    if image is None and options.decode is None:
        return None
    found = _found(OutputView.of(outputs, image, facts), options)
    if found is None:
        return None
    layout, reason = found
    return Recognized("detection", layout.outputs, _agreement(found, options), f"{reason} (layout {layout.title})")


def comparison(
    outputs: Outputs, names: Sequence[str], facts: ModelFacts, options: TaskOptions, feeds: Feeds | None = None
) -> Comparison:
    """Return the comparison of two detectors, requested by the user; the image's size helps to find the layout.

    Raises:
        UsageError: ONX102 no layout has the name in `options.decode`.
        DataError: ONX209 the outputs have no known layout, or cannot have the one named.
    """
    some = {name: outputs[name] for name in names or outputs}
    found = _found(OutputView.of(some, image_size(feeds or {}), facts), options)
    if found is None:
        hint = f"Name the layout with --decode: {', '.join(LAYOUTS)}."
        raise misfit("the outputs have no known layout of boxes", hint, where="detection")
    return _agreement(found, options)


def _found(view: OutputView, options: TaskOptions) -> Finding | None:
    return find(view) if options.decode is None else named_layout(view, options.decode)


def _agreement(found: Finding, options: TaskOptions) -> DetectionAgreement:
    return DetectionAgreement(found[0], options.score_threshold, options.nms_iou)
