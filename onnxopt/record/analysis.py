"""The analysis in the run record: time by layer, changed classes, the graph."""

from onnxopt.record.part import Number, RecordPart


class LayerRecord(RecordPart):
    """Time of one layer in the original and in best.onnx; null where it has no kernel of its own.

    `runs_as` is what ONNX Runtime calls for it in best.onnx; `sqnr_db` the signal to noise at the outputs when this
    layer alone is quantized, null when that was not measured.
    """

    name: str
    op_type: str
    before_ms: Number
    after_ms: Number
    runs_as: str | None
    sqnr_db: Number = None


class RangeRecord(RecordPart):
    """What a quantized activation can hold, `low` to `high`, what was seen, and the share of values outside."""

    tensor: str
    low: Number
    high: Number
    seen_low: Number
    seen_high: Number
    clipped: Number


class ChangedRecord(RecordPart):
    """A hold-out sample that best.onnx answers otherwise; `sample` counts from 0 in the data."""

    sample: int
    label: str | None
    before: str
    after: str


class ClassesRecord(RecordPart):
    """What became of each class; rows of a confusion matrix are labels, or the original's classes without labels.

    Only `labels` of the most frequent classes are listed, in the order of rows and columns.
    """

    labelled: bool
    labels: tuple[str, ...]
    samples: tuple[int, ...]
    before: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]


class NodeRecord(RecordPart):
    """A node of a graph; `inputs` are the positions of the nodes it reads."""

    name: str
    op_type: str
    inputs: tuple[int, ...]


class GraphRecord(RecordPart):
    """The nodes of a main graph in topological order; the last `left_out` of a very large one are not listed."""

    nodes: tuple[NodeRecord, ...]
    left_out: int = 0


class AnalysisRecord(RecordPart):
    """What was measured after the search, on the original and best.onnx.

    Attributes:
        layers: slowest first.
        other_ms: by model, time of kernels that belong to no layer, such as those that reorder data.
        ranges: most clipped first, on `range_samples` search samples.
        classes: on `samples` hold-out samples; null when the model gives no classes.
        changed: at most 200 of the `changed_count`.
        before: the original's graph; null when it could not be read.
        after: likewise of best.onnx; null for the original.
        problems: what could not be measured, and why.
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
