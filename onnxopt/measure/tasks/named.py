"""Metrics by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnxopt.errors import UsageError, nearest
from onnxopt.measure.metrics.classification import F1, Auroc, TopK
from onnxopt.measure.metrics.regression import R2, Mae, Rmse
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.metrics.user_metric import user_metric
from onnxopt.measure.tasks.detection.metric import AveragePrecision
from onnxopt.measure.tasks.embedding.metric import RecallAt
from onnxopt.measure.tasks.segmentation.metric import SegmentationMetric
from onnxopt.measure.tasks.sequence.metric import ErrorRate, ExactMatch
from onnxopt.measure.tasks.signal.metric import SignalRatio
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.measure.tasks.tokens.metric import Perplexity


@dataclass(frozen=True)
class _Wish:
    """The arguments of `metric_of`."""

    name: str
    output: str | None
    label_offset: int
    threshold: float
    options: TaskOptions


def _average_precision(wish: _Wish) -> AveragePrecision:
    task = wish.options
    least = task.score_threshold
    return AveragePrecision(wish.name, wish.output, wish.label_offset, task.nms_iou, task.decode, score_threshold=least)


_METRICS: Mapping[str, Callable[[_Wish], Metric]] = {
    "ap": _average_precision,
    "ap50": _average_precision,
    "auroc": lambda wish: Auroc(wish.output, wish.label_offset),
    "cer": lambda wish: ErrorRate(wish.output, wish.options.blank, wish.options.characters, name="cer"),
    "exact": lambda wish: ExactMatch(wish.output, wish.options.blank, wish.options.characters),
    "f1": lambda wish: F1(wish.output, wish.label_offset, wish.threshold),
    "mae": lambda wish: Mae(wish.output),
    "miou": lambda wish: SegmentationMetric("miou", wish.output, wish.label_offset, wish.options.map_threshold),
    "perplexity": lambda wish: Perplexity(wish.output),
    "pixel-accuracy": lambda wish: SegmentationMetric(
        "pixel-accuracy", wish.output, wish.label_offset, wish.options.map_threshold
    ),
    "psnr": lambda wish: SignalRatio("psnr", wish.output),
    "r2": lambda wish: R2(wish.output),
    "recall1": lambda wish: RecallAt(1, wish.output),
    "recall10": lambda wish: RecallAt(10, wish.output),
    "rmse": lambda wish: Rmse(wish.output),
    "si-sdr": lambda wish: SignalRatio("si-sdr", wish.output),
    "top1": lambda wish: TopK(1, wish.output, wish.label_offset, wish.threshold),
    "top5": lambda wish: TopK(5, wish.output, wish.label_offset, wish.threshold),
    "wer": lambda wish: ErrorRate(wish.output, wish.options.blank, wish.options.characters, name="wer"),
}
METRICS = tuple(_METRICS)


def metric_of(
    name: str,
    *,
    output: str | None = None,
    label_offset: int = 0,
    threshold: float = 0.5,
    options: TaskOptions | None = None,
) -> Metric:
    """Return the metric called `name`, or a metric that calls the user's `file.py:function`.

    Args:
        name: one of `METRICS`, or `file.py:function`, see `UserMetric`.
        output: the model output to score; None takes the first that fits.
        label_offset: subtracted from a predicted class before comparing: 1 for a network with a background class 0.
        threshold: score above which a classifier with a single score predicts the positive class; 0 for logits.
        options: options of reading boxes, maps or texts; None takes the defaults.

    Raises:
        UsageError: ONX102 no metric has this name, ONX107 the function cannot be used.
    """
    if ":" in name:
        return user_metric(name, output=output)
    make = _METRICS.get(name)
    if make is None:
        hint = f"{nearest(name, METRICS)} Or give your own as file.py:function."
        raise UsageError("ONX102", "unknown metric", where=name, hint=hint)
    return make(_Wish(name, output, label_offset, threshold, options or TaskOptions()))
