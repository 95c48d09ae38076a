"""The types of tasks: their names, the options of reading outputs, and the facts for recognition."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from onnxopt.measure.metrics.outputs import Outputs
from onnxopt.samples import Feeds

if TYPE_CHECKING:
    from onnxopt.measure.comparison import Comparison

TaskName = Literal[
    "classification",
    "multilabel",
    "regression",
    "detection",
    "segmentation",
    "sequence",
    "embedding",
    "signal",
    "tokens",
]
SignalDomain = Literal["waveform", "spectrum"]


@dataclass(frozen=True)
class TaskOptions:
    """Options of reading outputs, for models where the defaults do not fit.

    Attributes:
        tasks: task of each output by name; the name "" stands for every output.
        output: the only output to judge; None judges all.
        decode: layout of a detector's outputs by name; None finds it.
        score_threshold: score from which a box that the baseline finds is the truth.
        nms_iou: overlap from which the box with the lower score of two of a class is dropped.
        map_threshold: probability from which an element of a binary map belongs to it.
        blank: index of the CTC blank in a sequence's scores; -1 for scores that are no CTC; None finds it.
        characters: file with one symbol per line, in the order of the scores and without the blank, or the symbols
            themselves as one text; None takes those that the model's file holds.
        mask: name of the input that is 0 at padding; None finds it.
        signal: whether signals are compared as they are, or by the magnitudes of their spectra, which leave out phase.
    """

    tasks: tuple[tuple[str, TaskName], ...] = ()
    output: str | None = None
    decode: str | None = None
    score_threshold: float = 0.25
    nms_iou: float = 0.45
    map_threshold: float = 0.5
    blank: int | None = None
    characters: str | None = None
    mask: str | None = None
    signal: SignalDomain = "waveform"


def changed_options(tasks: TaskOptions) -> dict[str, Any]:
    """Return the options of reading outputs that are not at their default."""
    defaults = asdict(TaskOptions())
    return {key: value for key, value in asdict(tasks).items() if value != defaults[key]}


@dataclass(frozen=True)
class OutputFacts:
    """Facts of one model output that the graph states.

    Attributes:
        name: name of the output.
        shape: declared dimensions, each a number, a name, or None if unnamed; None if no shape is declared.
        ends: operator types that compute the output, the last first, followed back through data movement (Reshape,
            Transpose, Squeeze, Cast, Identity) to the first other operator.
    """

    name: str
    shape: tuple[int | str | None, ...] | None
    ends: tuple[str, ...]


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a model by which its tasks are recognized.

    Attributes:
        outputs: facts of the outputs by name, in graph order.
        operators: every operator type in the graph and its subgraphs.
        metadata: the file's own key-value notes, such as an exporter's class names.
    """

    outputs: Mapping[str, OutputFacts] = field(default_factory=dict)
    operators: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recognized:
    """A task found in a model's outputs.

    Attributes:
        task: name of the task.
        outputs: the outputs that it reads.
        comparison: comparison of two models' outputs.
        reason: the evidence, worded to follow "because".
    """

    task: TaskName
    outputs: tuple[str, ...]
    comparison: "Comparison"
    reason: str


class TaskModule(Protocol):
    """The two functions of a task's module, each with the same arguments.

    Args:
        outputs: outputs of the baseline for one batch.
        feeds: the inputs of that batch.
        facts: facts of the model's graph.
        options: options of reading outputs.
        names: names of the outputs to compare; empty for all.
    """

    def recognize(self, outputs: Outputs, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> Recognized | None:
        """Return the task of one output, or of outputs read together, if there is evidence; else None.

        It is called again with the remaining outputs.
        """

    def comparison(
        self,
        outputs: Outputs,
        names: tuple[str, ...],
        facts: ModelFacts,
        options: TaskOptions,
        feeds: Feeds | None = None,
    ) -> "Comparison":
        """Return the comparison of two models' outputs, requested by the user.

        Raises:
            DataError: ONX209 the outputs do not fit the task.
        """
