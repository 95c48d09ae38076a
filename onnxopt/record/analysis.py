"""The analysis in the run record: time by layer, changed classes, the graph."""

from typing import Self

from pydantic import model_validator

from onnxopt.record.part import Number, RecordPart


class LayerRecord(RecordPart):
    """Time of one layer in the baseline and in best.onnx; null if no kernel runs it alone.

    `runs_as` is ONNX Runtime's kernel in best.onnx; `sqnr_db` is the signal-to-noise ratio of the outputs with only
    this layer quantized, null if it was not measured.
    """

    name: str
    op_type: str
    before_ms: Number
    after_ms: Number
    runs_as: str | None
    sqnr_db: Number = None


class RangeRecord(RecordPart):
    """The range of a quantized activation, `low` to `high`, its observed values, and the share of values outside."""

    tensor: str
    low: Number
    high: Number
    seen_low: Number
    seen_high: Number
    clipped: Number


class ChangedRecord(RecordPart):
    """A hold-out sample with another class in best.onnx; `sample` counts from 0 in the data."""

    sample: int
    label: str | None
    before: str
    after: str


class ClassesRecord(RecordPart):
    """Results by class; rows of a confusion matrix are labels, or the baseline's classes without labels.

    `labels` are the most frequent classes, in the order of rows and columns.
    """

    labelled: bool
    labels: tuple[str, ...]
    samples: tuple[int, ...]
    before: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]

    @model_validator(mode="after")
    def _has_a_place_for_each_class(self) -> Self:
        count = len(self.labels)
        for name, table in (("before", self.before), ("after", self.after)):
            if [len(row) for row in table] != [count] * count:
                raise ValueError(f"{name} is no table of {count} by {count} classes")
        if len(self.samples) != count:
            raise ValueError(f"{len(self.samples)} numbers of samples for {count} classes")
        return self


class NodeRecord(RecordPart):
    """A node of a graph; `inputs` are the positions of the nodes it reads."""

    name: str
    op_type: str
    inputs: tuple[int, ...]


class GraphRecord(RecordPart):
    """The nodes of a main graph in topological order; the last `left_out` of a very large one are not listed."""

    nodes: tuple[NodeRecord, ...]
    left_out: int = 0

    @model_validator(mode="after")
    def _reads_earlier_nodes(self) -> Self:
        for position, node in enumerate(self.nodes):
            if not all(0 <= read < position for read in node.inputs):
                raise ValueError(f"node {position} reads nodes that are not before it")
        return self


class AnalysisRecord(RecordPart):
    """Measurements after the search, on the baseline and best.onnx.

    Attributes:
        layers: slowest first.
        other_ms: the time by model of kernels that belong to no layer, such as those that reorder data.
        ranges: most clipped first, on `range_samples` search samples.
        classes: results by class on `samples` hold-out samples; null if the model has no classes.
        changed: at most 200 of the `changed_count` samples.
        before: the baseline's graph; null if it could not be read.
        after: the graph of best.onnx; null for the baseline.
        problems: measurements that failed, with the reason.
    """

    layers: tuple[LayerRecord, ...] = ()
    other_ms: tuple[Number, ...] = ()
    ranges: tuple[RangeRecord, ...] = ()
    range_samples: int = 0
    samples: int = 0
    classes: ClassesRecord | None = None
    changed: tuple[ChangedRecord, ...] = ()
    changed_count: int = 0
    before: GraphRecord | None = None
    after: GraphRecord | None = None
    problems: tuple[str, ...] = ()
