"""Judges of candidates: the part that accuracy and fidelity share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

from onnxopt.measure.accuracy import Evaluation, Progress, Stop, drop, first
from onnxopt.measure.known_outputs import KnownOutputs
from onnxopt.measure.repeatable import seed_sentence, session_kind
from onnxopt.measure.runtime.session import Loadable, Runtime, Session
from onnxopt.measure.statistics import Drop
from onnxopt.samples import Samples


@dataclass(frozen=True, eq=False)
class Judge(ABC):
    """Measures candidates on the same samples as the baseline, in points of one metric.

    The baseline's outputs are computed once where they take little memory.

    Attributes:
        model: the baseline.
        samples: the samples to judge on.
        runtime: configuration of ONNX Runtime.
        seed: seed of the resampling.
        kind: the reference of scores: labels (accuracy) or the baseline's outputs (fidelity).
        slow: factor on the time per sample where the baseline's outputs are not kept.
    """

    model: Loadable
    samples: Samples
    runtime: Runtime
    seed: int = field(default=0, kw_only=True)
    kind: ClassVar[Literal["accuracy", "fidelity"]]
    slow: ClassVar[float]

    @property
    @abstractmethod
    def metric_name(self) -> str:
        """The name of the metric."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """The unit of the metric."""

    @property
    @abstractmethod
    def rule(self) -> str:
        """The rule by which results are judged and its reason, in one sentence."""

    @property
    def choice(self) -> str:
        """The rule, and the seed of random operators if there is one."""
        return f"{self.rule}{seed_sentence(self._open)}"

    @cached_property
    def _open(self) -> type[Session]:
        return session_kind(self.model, self.samples, self.runtime)

    @cached_property
    def _known(self) -> KnownOutputs:
        return KnownOutputs(lambda: self._open(self.model, self.runtime))

    @cached_property
    def _baseline(self) -> Evaluation:
        return self._evaluated(self._known, None, None)

    def baseline(self) -> Evaluation:
        """Return the baseline's evaluation; measured once. Raises like `evaluate`."""
        return self._baseline

    def slowdown(self, share: float) -> float:
        """Return the factor on the time per sample for `share` times as many samples.

        The baseline runs again for outputs that are not kept. The factor is known once the baseline is measured.
        """
        return self.slow if self._known.outgrown_by(share) else 1.0

    def evaluate(
        self, model: Loadable | Session, *, progress: Progress | None = None, stop: Stop | None = None
    ) -> Evaluation:
        """Measure a candidate, one batch in memory at a time; Ctrl-C stops it.

        Args:
            model: the candidate.
            progress: called with the finished and the total number of samples.
            stop: may end the measurement after the first samples.

        Raises:
            DataError: ONX207 the baseline gives NaN for most samples, ONX208 labels are missing, ONX209 the outputs
                do not fit the metric or the task.
            ModelError: ONX304 the model cannot be loaded, ONX308 its outputs have other names.
            NativeError: ONX401 the model cannot be run.
        """
        return self._evaluated(model, progress, stop)

    @abstractmethod
    def _evaluated(
        self, model: Loadable | Session | KnownOutputs, progress: Progress | None, stop: Stop | None
    ) -> Evaluation: ...

    def drop(self, candidate: Evaluation) -> Drop:
        """Compare a candidate with the baseline, sample by sample, on those that both were scored on."""
        return drop(first(self.baseline(), len(candidate.rows)), candidate, seed=self.seed)
