"""The types of tasks: the facts for their recognition, and what is recognized."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from onnxopt.measure.metrics.outputs import Outputs
from onnxopt.options.tasks import TaskName as TaskName  # noqa: PLC0414  # tasks and their options are one door
from onnxopt.options.tasks import TaskOptions as TaskOptions  # noqa: PLC0414  # tasks and their options are one door
from onnxopt.samples import Feeds

if TYPE_CHECKING:
    from onnxopt.measure.comparison import Comparison


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
