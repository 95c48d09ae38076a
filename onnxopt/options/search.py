"""Options of a search: `onnxopt optimize`, `onnxopt.optimize`, TOML, run.json and resume read these fields."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal, get_args

from annotated_types import Ge, Le
from typing_extensions import Doc

from onnxopt.errors import UsageError, nearest
from onnxopt.options.declared import Word
from onnxopt.options.lengths import lengths_of

Require = Literal["proven", "likely"]
StrategyName = Literal["mobile", "edge", "realtime", "server", "size"]
Protect = Literal["first", "last", "embeddings"]


class Goal(Enum):
    """Figure that the search improves."""

    LATENCY = "latency"
    SIZE = "size"


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """Options of the metric; a metric of your own may be an `onnxopt.Metric` too."""

    metric: Annotated[
        str | object | None,
        Doc(
            "top1, top5, f1, auroc, rmse, mae, r2; ap, ap50; miou, pixel-accuracy; exact, cer, wer; recall1, "
            "recall10; si-sdr, psnr; perplexity; or file.py:function. Default: by the labels."
        ),
    ] = None
    output: Annotated[str | None, Doc("Model output to score. Default: the first that fits.")] = None
    threshold: Annotated[float, Doc("Lowest single score of the positive class; 0 for logits.")] = 0.5


@dataclass(frozen=True, kw_only=True)
class SearchOptions(ScoringOptions):
    """Options of a search; None leaves the choice to the search. The `Doc` of each field describes it.

    Raises:
        UsageError: ONX101 a value is invalid, ONX102 a word is unknown.
    """

    max_drop: Annotated[
        str | float | None,
        Doc(
            "Budget: 1pp (percentage points), 1% (of the score) or 0.01 (in the metric's unit). [default: 1pp; 1% for "
            "metrics without points, such as rmse]"
        ),
    ] = None
    goal: Annotated[Goal | None, Doc("Figure to improve. [default: latency]")] = None
    confidence: Annotated[float, Doc("Probability of being within the budget that counts as proof.")] = 0.95
    require: Annotated[Require, Doc("`proven`: ship no winner that is only likely within the budget.")] = "likely"
    batch_size: Annotated[int, Doc("Batch size at which latency is measured.")] = 1
    sequence: Annotated[
        str | None,
        Word(metavar="128:0.3,1:0.7"),
        Doc(
            "Lengths of sequences at which latency is measured, each with its share of the runs. [default: the data's]"
        ),
    ] = None
    latency_s: Annotated[
        float, Word("latency-seconds"), Doc("Measurement time per candidate; a proof takes three times as long.")
    ] = 1.0
    hot: Annotated[bool, Doc("Time one input repeatedly instead of alternating the inputs of --data.")] = False
    prune: Annotated[bool, Doc("Also prune the best candidate: channels, blocks; takes minutes more.")] = False
    train: Annotated[bool, Doc("With --prune: distill pruned models from the baseline. Needs torch.")] = False
    strategy: Annotated[
        StrategyName | None, Doc("Preset of --goal, --prune, --train and --protect for a kind of deployment.")
    ] = None
    protect: Annotated[
        tuple[str, ...], Doc("Layers whose channels are never pruned: first, last, embeddings; comma-separated.")
    ] = ()
    target_latency: Annotated[str | None, Word(metavar="10ms|0.5x"), Doc("Stop at this latency (or ratio).")] = None
    target_size: Annotated[str | None, Word(metavar="2MB|0.25x"), Doc("Stop at this file size (or ratio).")] = None
    time_limit_s: Annotated[
        float | None, Word("time-limit", "SECONDS"), Doc("Limit of the whole run, with proof and report.")
    ] = None
    trial_timeout_s: Annotated[
        float | None,
        Word("trial-timeout", "SECONDS"),
        Doc("Time limit per candidate; runs each candidate in its own process."),
    ] = None
    memory_limit: Annotated[
        str | int | None,
        Word(metavar="2GB"),
        Doc("Memory limit per candidate; runs each candidate in its own process."),
    ] = None
    device: Annotated[
        str | None,
        Word(metavar="ssh://USER@BOARD"),
        Doc("Device that times all candidates; accuracy is measured here. Or local:///path/to/python."),
    ] = None
    cluster: Annotated[
        str | None,
        Word(metavar="tcp://HOST:PORT"),
        Doc("Dask scheduler whose workers build, score and time candidates."),
    ] = None
    bench: Annotated[
        str | None,
        Word(metavar="bench-arm64"),
        Doc("With --cluster: Dask resource of the workers that measure latency."),
    ] = None
    tls: Annotated[
        tuple[str, str, str] | None,
        Word(metavar="CA CERT KEY"),
        Doc("With --cluster: files for an encrypted connection."),
    ] = None
    limit: Annotated[int | None, Doc("Largest number of samples, spread evenly over the data.")] = None
    target: Annotated[
        str, Doc("Target processor: auto, x86-avx2, x86-vnni, arm64-dotprod, ...; or several: x86-avx2,arm64.")
    ] = "auto"
    seed: Annotated[int, Ge(0), Le(2**32 - 1), Doc("Random seed.")] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "goal", None if self.goal is None else goal_of(self.goal))
        object.__setattr__(self, "protect", tuple(self.protect))
        if not 0 < self.confidence < 1:
            raise UsageError("ONX101", "the confidence must lie between 0 and 1", where=str(self.confidence))
        if self.require not in get_args(Require):
            hint = nearest(self.require, get_args(Require))
            raise UsageError("ONX101", "unknown requirement", where=self.require, hint=hint)
        if self.strategy is not None and self.strategy not in get_args(StrategyName):
            hint = nearest(self.strategy, get_args(StrategyName))
            raise UsageError("ONX102", "unknown strategy", where=self.strategy, hint=hint)
        for name in self.protect:
            if name not in get_args(Protect):
                hint = nearest(name, get_args(Protect))
                raise UsageError("ONX102", "unknown layers to protect", where=name, hint=hint)
        if self.batch_size < 1:
            raise UsageError("ONX101", "the batch size must be 1 or more", where=str(self.batch_size))
        if self.sequence is not None:
            lengths_of(self.sequence)
        self._check_times()

    def _check_times(self) -> None:
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise UsageError("ONX101", "the time limit must be positive", where=str(self.time_limit_s))
        if self.trial_timeout_s is not None and not self.trial_timeout_s > 0:
            raise UsageError("ONX101", "the time limit of a trial must be positive", where=str(self.trial_timeout_s))
        if not (self.latency_s > 0 and math.isfinite(self.latency_s)):
            raise UsageError("ONX101", "the measurement time must be positive", where=str(self.latency_s))


def goal_of(goal: str | Goal) -> Goal:
    """Return the goal called `goal`.

    Raises:
        UsageError: ONX102 the name is unknown.
    """
    known = {g.value: g for g in Goal}
    if isinstance(goal, Goal):
        return goal
    if goal not in known:
        raise UsageError("ONX102", "unknown goal", where=str(goal), hint=nearest(str(goal), known))
    return known[goal]
