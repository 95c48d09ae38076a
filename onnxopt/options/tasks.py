"""Options of reading outputs."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, cast, get_args

from annotated_types import Ge, Le
from typing_extensions import Doc

from onnxopt.errors import UsageError, nearest
from onnxopt.options.declared import Word

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


def task_called(name: str) -> TaskName:
    """Return the task of this name.

    Raises:
        UsageError: ONX102 the name is unknown.
    """
    if name not in get_args(TaskName):
        raise UsageError("ONX102", "unknown task", where=name, hint=nearest(name, get_args(TaskName)))
    return cast("TaskName", name)


def parse_tasks(text: str) -> tuple[tuple[str, TaskName], ...]:
    """Read `detection` or `boxes=regression,scores=classification`.

    Raises:
        UsageError: ONX101 the text has another form, ONX102 there is no such task.
    """
    pairs = []
    for word in text.split(","):
        name, separator, task = word.rpartition("=")
        if (separator and not name) or (not separator and "," in text):
            hint = "Write --task TASK, or --task output=task,output=task."
            raise UsageError("ONX101", "the tasks cannot be read", where=text, hint=hint)
        pairs.append((name.strip(), task_called(task.strip())))
    return tuple(pairs)


@dataclass(frozen=True)
class TaskOptions:
    """Options of reading outputs, for models where the defaults do not fit. The `Doc` of each field describes it.

    None finds it. In `tasks` the name "" stands for every output; commands give `output` with the metric. Characters
    are in the order of the scores and without the blank. A box that the baseline finds is true from `score_threshold`;
    of two of a class that overlap by `nms_iou` the one with the lower score is dropped.
    """

    tasks: Annotated[
        tuple[tuple[str, TaskName], ...],
        Word("task", metavar="TASK|OUTPUT=TASK,...", read=parse_tasks),
        Doc(
            "classification, multilabel, regression, detection, segmentation, sequence, embedding, signal or "
            "tokens. Default: recognized from outputs, labels and metadata."
        ),
    ] = ()
    output: Annotated[str | None, Word(typed=False), Doc("The only output to judge. Default: all.")] = None
    decode: Annotated[str | None, Doc("Detection: layout of the outputs.")] = None
    score_threshold: Annotated[float, Ge(0), Le(1), Doc("Detection: lowest score of a box.")] = 0.25
    nms_iou: Annotated[float, Ge(0), Le(1), Doc("Detection: IoU threshold of non-maximum suppression.")] = 0.45
    map_threshold: Annotated[float, Doc("Segmentation: threshold of a binary map.")] = 0.5
    blank: Annotated[int | None, Doc("Sequence: index of the CTC blank; -1 for none.")] = None
    characters: Annotated[str | None, Doc("Sequence: file of symbols, one per line, or the symbols.")] = None
    mask: Annotated[str | None, Doc("Tokens: name of the attention mask input (0 = padding).")] = None
    signal: Annotated[
        SignalDomain, Word(default_shown=False), Doc("Signal: waveform, or spectrum (magnitudes only).")
    ] = "waveform"


def changed_options(tasks: TaskOptions) -> dict[str, Any]:
    """Return the options of reading outputs that are not at their default."""
    defaults = asdict(TaskOptions())
    return {key: value for key, value in asdict(tasks).items() if value != defaults[key]}
