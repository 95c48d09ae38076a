"""Metrics by name."""

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

METRICS = (
    "ap",
    "ap50",
    "auroc",
    "cer",
    "exact",
    "f1",
    "mae",
    "miou",
    "perplexity",
    "pixel-accuracy",
    "psnr",
    "r2",
    "recall1",
    "recall10",
    "rmse",
    "si-sdr",
    "top1",
    "top5",
    "wer",
)


def metric_of(
    name: str,
    *,
    output: str | None = None,
    label_offset: int = 0,
    threshold: float = 0.5,
    options: TaskOptions | None = None,
) -> Metric:
    """Return the metric called `name`, or one that calls the user's `file.py:function`.

    Args:
        name: one of `METRICS`, or `file.py:function`, see `UserMetric`.
        output: the model output to score; None takes the first that fits.
        label_offset: subtracted from a predicted class before comparing: 1 for a network with a background class 0.
        threshold: above which a classifier with a single score says "positive"; 0 for logits.
        options: how outputs of boxes, maps or texts are read; None takes the defaults.

    Raises:
        UsageError: ONX102 no metric has this name, ONX107 the function cannot be used.
    """
    if ":" in name:
        return user_metric(name, output=output)
    options = options or TaskOptions()
    match name:
        case "ap" | "ap50":
            threshold = options.score_threshold
            return AveragePrecision(
                name, output, label_offset, options.nms_iou, options.decode, score_threshold=threshold
            )
        case "cer" | "wer":
            return ErrorRate(output, options.blank, options.characters, name=name)
        case "exact":
            return ExactMatch(output, options.blank, options.characters)
        case "miou" | "pixel-accuracy":
            return SegmentationMetric(name, output, label_offset, options.map_threshold)
        case "perplexity":
            return Perplexity(output)
        case "psnr" | "si-sdr":
            return SignalRatio(name, output)
        case "recall1" | "recall10":
            return RecallAt(int(name[6:]), output)
        case "top1" | "top5":
            return TopK(int(name[3:]), output, label_offset, threshold)
        case "f1":
            return F1(output, label_offset, threshold)
        case "auroc":
            return Auroc(output, label_offset)
        case "mae":
            return Mae(output)
        case "rmse":
            return Rmse(output)
        case "r2":
            return R2(output)
    hint = f"{nearest(name, METRICS)} Or give your own as file.py:function."
    raise UsageError("ONX102", "unknown metric", where=name, hint=hint)
