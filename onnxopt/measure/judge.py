"""The interface of a judge of candidates."""

from typing import Literal, Protocol

from onnxopt.measure.accuracy import Evaluation, Progress, Stop
from onnxopt.measure.runtime.session import Loadable, Session
from onnxopt.measure.statistics import Drop


class Judge(Protocol):
    """Measures candidates on the same samples as the baseline, in points of one metric."""

    @property
    def kind(self) -> Literal["accuracy", "fidelity"]:
        """The reference of scores: labels (accuracy) or the baseline's outputs (fidelity)."""

    @property
    def metric_name(self) -> str:
        """The name of the metric."""

    @property
    def unit(self) -> str:
        """The unit of the metric."""

    @property
    def choice(self) -> str:
        """The rule by which results are judged and its reason, in one sentence."""

    def baseline(self) -> Evaluation:
        """Return the baseline's evaluation; measured once."""

    def slowdown(self, share: float) -> float:
        """Return the factor on the time per sample for `share` times as many samples.

        The baseline runs again for outputs that are not kept. The factor is known once the baseline is measured.
        """

    def evaluate(
        self, model: Loadable | Session, *, progress: Progress | None = None, stop: Stop | None = None
    ) -> Evaluation:
        """Measure a candidate; `stop` may end it after the first samples."""

    def drop(self, candidate: Evaluation) -> Drop:
        """Compare a candidate with the baseline, sample by sample, on those that both were scored on."""
