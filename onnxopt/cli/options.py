"""The options that commands share: one dataclass per group, see `onnxopt.cli.groups`."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxopt.cli.config import read_config
from onnxopt.errors import UsageError

if TYPE_CHECKING:
    from onnxopt.measure.runtime.session import Runtime
    from onnxopt.measure.tasks.task import TaskOptions
    from onnxopt.samples.options import ReadOptions


class Format(Enum):
    """How results are written."""

    TEXT = "text"
    JSON = "json"
    MD = "md"


class Resize(Enum):
    """How an image gets to the model's size."""

    SQUASH = "squash"
    CROP = "crop"
    LETTERBOX = "letterbox"


class Layout(Enum):
    """Where the channels of an image are."""

    NCHW = "NCHW"
    NHWC = "NHWC"


class OptimizationLevel(Enum):
    """How far ONNX Runtime optimizes a graph when it loads it."""

    NONE = "none"
    BASIC = "basic"
    EXTENDED = "extended"
    ALL = "all"


class SignalKind(Enum):
    """How signals are compared."""

    WAVEFORM = "waveform"
    SPECTRUM = "spectrum"


class ChannelOrder(Enum):
    """Order of the colours of an image."""

    RGB = "rgb"
    BGR = "bgr"


def _numbers(option: str, text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    try:
        return tuple(kind(word) for word in text.replace("x", ",").split(","))
    except ValueError as error:
        raise UsageError(
            "ONX101", "an option makes no sense", where=option, why=f"{text!r} is no list of numbers"
        ) from error


def session_entry(text: str) -> tuple[str, str]:
    """Return a session option and its value; raises ONX101."""
    key, separator, value = text.partition("=")
    if not (key and separator and value):
        raise UsageError(
            "ONX101",
            "a session option cannot be read",
            where=text,
            hint="Write --session-option key=value, such as session.disable_prepacking=1.",
        )
    return key, value


MODEL = Annotated[Path, typer.Argument(help="ONNX file.", show_default=False)]
OUT_MODEL = Annotated[Path, typer.Option("--out", "-o", help="File to write.", show_default=False)]
DATA = Annotated[
    str,
    typer.Option(
        "--data",
        "-d",
        show_default=False,
        help="Samples: .npz, .npy, .csv, .tsv, .jsonl, .parquet; a folder of images, of .npz files or of ONNX test "
        "data (test_data_set_*); or `digits`, `random`.",
    ),
]
MAYBE_DATA = Annotated[str | None, *DATA.__metadata__]
LABELS = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="File of labels, if they are not in the data; boxes: COCO JSON, folder of YOLO .txt or VOC .xml; masks: "
        "folder of .png.",
    ),
]
MAX_DROP = Annotated[
    str | None,
    typer.Option(
        "--max-drop",
        help="1pp (points), 1% (of the score) or 0.01 (in the metric's unit). [default: 1pp; 1% where there are no "
        "points, as for rmse]",
    ),
]
LIMIT = Annotated[int | None, typer.Option("--limit", help="Samples to use at most, spread evenly over the data.")]
TARGET = Annotated[
    str,
    typer.Option(
        "--target", help="Processor: auto, x86-avx2, x86-vnni, arm64-dotprod, ...; or several: x86-avx2,arm64."
    ),
]
SEED = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of everything random.")]
OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="Check everything, show what would be done, write nothing.")]


@dataclass(frozen=True)
class Shown:
    """What is printed, and where options come from."""

    format: Annotated[Format, typer.Option("--format", "-f", help="Form of the result on stdout.")] = Format.TEXT
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More notes; tracebacks of bugs.")] = False
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            callback=read_config,
            is_eager=True,
            help="TOML file with options by their long names; the command line wins.",
        ),
    ] = None


@dataclass(frozen=True)
class Running:
    """How models are run."""

    threads: Annotated[int, typer.Option("--threads", help="Compute threads of one run.")] = 1
    ep: Annotated[str, typer.Option("--ep", help="Execution provider: cpu, openvino, xnnpack, cuda, ...")] = "cpu"
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of everything random.")] = 0
    optimization_level: Annotated[
        OptimizationLevel, typer.Option("--optimization-level", help="ONNX Runtime's own graph optimization.")
    ] = OptimizationLevel.ALL
    session_option: Annotated[
        list[str] | None,
        typer.Option("--session-option", metavar="KEY=VALUE", help="ONNX Runtime session entry; repeat it."),
    ] = None

    def runtime(self) -> "Runtime":
        """Return how ONNX Runtime is to be set up."""
        from onnxopt.measure.runtime.session import Runtime

        return Runtime(
            provider=self.ep,
            threads=self.threads,
            optimization=self.optimization_level.value,
            options=tuple(map(session_entry, self.session_option or ())),
        )


@dataclass(frozen=True)
class Scoring:
    """What is measured on the data."""

    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            help="top1, top5, f1, auroc, rmse, mae, r2; ap, ap50; miou, pixel-accuracy; exact, cer, wer; recall1, "
            "recall10; si-sdr, psnr; perplexity; or file.py:function. Else by the labels.",
        ),
    ] = None
    output_name: Annotated[
        str | None, typer.Option("--output-name", help="Model output to score; else the first that fits.")
    ] = None
    threshold: Annotated[
        float, typer.Option("--threshold", help="Above it, a single score means `positive`; 0 for logits.")
    ] = 0.5


@dataclass(frozen=True)
class Tasking:
    """As which tasks outputs are judged; the fields are those of `onnxopt.measure.tasks.task.TaskOptions`."""

    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="TASK|OUTPUT=TASK,...",
            help="classification, multilabel, regression, detection, segmentation, sequence, embedding, signal or "
            "tokens; else by evidence.",
        ),
    ] = None
    decode: Annotated[str | None, typer.Option("--decode", help="Detection: layout of the outputs.")] = None
    score_threshold: Annotated[
        float | None, typer.Option("--score-threshold", min=0, max=1, help="Detection: least score. [default: 0.25]")
    ] = None
    nms_iou: Annotated[
        float | None,
        typer.Option("--nms-iou", min=0, max=1, help="Detection: overlap allowed. [default: 0.45]"),
    ] = None

    map_threshold: Annotated[
        float | None, typer.Option("--map-threshold", help="Segmentation: of a binary map. [default: 0.5]")
    ] = None
    blank: Annotated[int | None, typer.Option("--blank", help="Sequence: index of the CTC blank; -1 for none.")] = None
    characters: Annotated[
        str | None, typer.Option("--characters", help="Sequence: file of symbols, one per line, or the symbols.")
    ] = None
    mask: Annotated[str | None, typer.Option("--mask", help="Tokens: input that is 0 at padding.")] = None
    signal: Annotated[
        SignalKind | None, typer.Option("--signal", help="Signal: waveform, or spectrum for magnitudes alone.")
    ] = None

    def options(self) -> "TaskOptions":
        """Return how outputs are read."""
        from onnxopt.measure.tasks.recognition import parse_tasks
        from onnxopt.measure.tasks.task import TaskOptions

        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "task"}
        chosen = {k: v.value if isinstance(v, Enum) else v for k, v in given.items() if v is not None}
        return TaskOptions(tasks=parse_tasks(self.task) if self.task else (), **chosen)


@dataclass(frozen=True)
class Reading:
    """How data is read; the fields are those of `onnxopt.samples.options.ReadOptions`, None keeps its default."""

    resize: Annotated[Resize | None, typer.Option("--resize", help="Images: how to get to the size.")] = None
    pad: Annotated[int | None, typer.Option("--pad", help="Images: pixel value beside a letterboxed image.")] = None
    shortest_side: Annotated[
        int | None, typer.Option("--shortest-side", help="Images: scale to this before --resize crop.")
    ] = None
    size: Annotated[
        str | None, typer.Option("--size", metavar="H[xW]", help="Images: height and width; else the model's.")
    ] = None
    divide_by: Annotated[
        float | None, typer.Option("--divide-by", help="Images: pixels 0..255 are divided by this.")
    ] = None
    mean: Annotated[str | None, typer.Option("--mean", metavar="M[,M,M]", help="Images: subtracted then.")] = None
    std: Annotated[str | None, typer.Option("--std", metavar="S[,S,S]", help="Images: divides last.")] = None
    layout: Annotated[Layout | None, typer.Option("--layout", help="Images: else read from the model.")] = None
    channel_order: Annotated[ChannelOrder | None, typer.Option("--channel-order", help="Images: colours.")] = None
    label_column: Annotated[str | None, typer.Option("--label-column", help="Tables: column of labels.")] = None
    label_offset: Annotated[
        int | None, typer.Option("--label-offset", help="Added to labels: 1 if class 0 is background.")
    ] = None
    text_column: Annotated[str | None, typer.Option("--text-column", help="Tables: column of text.")] = None
    vocab: Annotated[str | None, typer.Option("--vocab", help="Text: JSON file of the tokenizer.")] = None
    memory_mb: Annotated[
        int | None, typer.Option("--memory-mb", help="A larger stream of samples goes to a temporary file.")
    ] = None

    def options(self) -> "ReadOptions":
        """Return the options of the readers."""
        from onnxopt.samples.options import ReadOptions

        given = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen = {k: v.value if isinstance(v, Enum) else v for k, v in given.items() if v is not None}
        for name, kind in (("size", int), ("mean", float), ("std", float)):
            if name in chosen:
                chosen[name] = _numbers(f"--{name}", chosen[name], kind)
        if len(chosen.get("size", ())) == 1:
            chosen["size"] = chosen["size"][0]
        return ReadOptions(**chosen)
