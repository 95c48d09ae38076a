"""Options shared by commands: one dataclass per group, see `onnxopt.cli.groups`."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onnxopt.cli.config import read_config
from onnxopt.errors import UsageError
from onnxopt.options.declared import about
from onnxopt.options.search import SearchOptions

if TYPE_CHECKING:
    from onnxopt.measure.runtime.session import Runtime
    from onnxopt.measure.tasks.task import TaskOptions
    from onnxopt.samples.options import ReadOptions


Format = Literal["text", "json", "md"]
"""Format of the result on stdout."""

Resize = Literal["squash", "crop", "letterbox"]
"""Method for fitting an image to the model's input size."""

Layout = Literal["NCHW", "NHWC"]
"""Axis order of an image."""

OptimizationLevel = Literal["none", "basic", "extended", "all"]
"""Level of ONNX Runtime's graph optimization at load time."""

SignalKind = Literal["waveform", "spectrum"]
"""Method for comparing signals."""

ChannelOrder = Literal["rgb", "bgr"]
"""Order of the colour channels of an image."""


def _numbers(option: str, text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    try:
        return tuple(kind(word) for word in text.replace("x", ",").split(","))
    except ValueError as error:
        raise UsageError(
            "ONX101", "invalid option value", where=option, why=f"{text!r} is no list of numbers"
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
        help="Samples: .npz, .npy, .csv, .tsv, .jsonl, .parquet; a folder of images, of sound (.wav, .flac, .ogg), "
        "of .npz files or of ONNX test data (test_data_set_*); or `digits`, `random`.",
    ),
]
MAYBE_DATA = Annotated[str | None, *DATA.__metadata__]
LABELS = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="File of labels, if --data has none. Boxes: COCO JSON, folder of YOLO .txt or VOC .xml; masks: folder of "
        ".png.",
    ),
]
MAX_DROP = Annotated[str | None, typer.Option("--max-drop", help=about(SearchOptions, "max_drop"))]
LIMIT = Annotated[int | None, typer.Option("--limit", help=about(SearchOptions, "limit"))]
TARGET = Annotated[str, typer.Option("--target", help=about(SearchOptions, "target"))]
SEED = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Random seed.")]
OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output file.")]
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="Check the inputs and show the plan; write nothing.")]


@dataclass(frozen=True)
class Shown:
    """Options of the output, and the configuration file."""

    format: Annotated[Format, typer.Option("--format", "-f", help="Format of the result on stdout.")] = "text"
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More notes; tracebacks of bugs.")] = False
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            callback=read_config,
            is_eager=True,
            help="TOML file of options by long name; the command line overrides it.",
        ),
    ] = None


@dataclass(frozen=True)
class Sessions:
    """Options of ONNX Runtime."""

    threads: Annotated[int, typer.Option("--threads", help="Compute threads per run.")] = 1
    provider: Annotated[
        str, typer.Option("--provider", help="Execution provider: cpu, openvino, xnnpack, cuda, ...")
    ] = "cpu"
    optimization_level: Annotated[
        OptimizationLevel, typer.Option("--optimization-level", help="ONNX Runtime's graph optimization level.")
    ] = "all"
    session_option: Annotated[
        list[str] | None,
        typer.Option("--session-option", metavar="KEY=VALUE", help="ONNX Runtime session entry; repeat it."),
    ] = None

    def runtime(self) -> "Runtime":
        """Return the configuration of ONNX Runtime."""
        from onnxopt.measure.runtime.session import Runtime

        return Runtime(
            provider=self.provider,
            threads=self.threads,
            optimization=self.optimization_level,
            options=tuple(map(session_entry, self.session_option or ())),
        )


@dataclass(frozen=True)
class Running(Sessions):
    """Options of ONNX Runtime, and the seed."""

    seed: SEED = 0


@dataclass(frozen=True)
class Tasking:
    """Options of the task; the fields are those of `onnxopt.measure.tasks.task.TaskOptions`."""

    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="TASK|OUTPUT=TASK,...",
            help="classification, multilabel, regression, detection, segmentation, sequence, embedding, signal or "
            "tokens. Default: recognized from outputs, labels and metadata.",
        ),
    ] = None
    decode: Annotated[str | None, typer.Option("--decode", help="Detection: layout of the outputs.")] = None
    score_threshold: Annotated[
        float | None,
        typer.Option("--score-threshold", min=0, max=1, help="Detection: lowest score of a box. [default: 0.25]"),
    ] = None
    nms_iou: Annotated[
        float | None,
        typer.Option(
            "--nms-iou", min=0, max=1, help="Detection: IoU threshold of non-maximum suppression. [default: 0.45]"
        ),
    ] = None

    map_threshold: Annotated[
        float | None, typer.Option("--map-threshold", help="Segmentation: threshold of a binary map. [default: 0.5]")
    ] = None
    blank: Annotated[int | None, typer.Option("--blank", help="Sequence: index of the CTC blank; -1 for none.")] = None
    characters: Annotated[
        str | None, typer.Option("--characters", help="Sequence: file of symbols, one per line, or the symbols.")
    ] = None
    mask: Annotated[
        str | None, typer.Option("--mask", help="Tokens: name of the attention mask input (0 = padding).")
    ] = None
    signal: Annotated[
        SignalKind | None, typer.Option("--signal", help="Signal: waveform, or spectrum (magnitudes only).")
    ] = None

    def options(self) -> "TaskOptions":
        """Return the options of the task."""
        from onnxopt.measure.tasks.recognition import parse_tasks
        from onnxopt.measure.tasks.task import TaskOptions

        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "task"}
        chosen = {k: v for k, v in given.items() if v is not None}
        return TaskOptions(tasks=parse_tasks(self.task) if self.task else (), **chosen)


@dataclass(frozen=True)
class Reading:
    """Options of the data readers, with the fields of `onnxopt.samples.options.ReadOptions`; None = its default."""

    resize: Annotated[Resize | None, typer.Option("--resize", help="Images: method for fitting the input size.")] = None
    pad: Annotated[int | None, typer.Option("--pad", help="Images: pixel value beside a letterboxed image.")] = None
    shortest_side: Annotated[
        int | None, typer.Option("--shortest-side", help="Images: length of the shorter side before --resize crop.")
    ] = None
    size: Annotated[
        str | None, typer.Option("--size", metavar="H[xW]", help="Images: height and width. Default: the model's.")
    ] = None
    divide_by: Annotated[
        float | None, typer.Option("--divide-by", help="Images: divisor of the pixel values 0 to 255.")
    ] = None
    mean: Annotated[
        str | None,
        typer.Option("--mean", metavar="M[,M,M]", help="Images: mean per channel, subtracted after the division."),
    ] = None
    std: Annotated[
        str | None,
        typer.Option("--std", metavar="S[,S,S]", help="Images: standard deviation per channel, divides last."),
    ] = None
    layout: Annotated[Layout | None, typer.Option("--layout", help="Images: axis order. Default: the model's.")] = None
    channel_order: Annotated[
        ChannelOrder | None, typer.Option("--channel-order", help="Images: order of the colour channels.")
    ] = None
    label_column: Annotated[str | None, typer.Option("--label-column", help="Tables: column of labels.")] = None
    label_offset: Annotated[
        int | None, typer.Option("--label-offset", help="Number added to each label: 1 if class 0 is background.")
    ] = None
    text_column: Annotated[str | None, typer.Option("--text-column", help="Tables: column of text.")] = None
    sample_rate: Annotated[
        int | None, typer.Option("--sample-rate", help="Sound: Hz that the model takes. Default: the files' own.")
    ] = None
    window: Annotated[
        int | None,
        typer.Option(
            "--window",
            help="Sound: samples per window. Default: the model's, or whole clips. Text of a model with states: tokens "
            "per step.",
        ),
    ] = None
    vocab: Annotated[str | None, typer.Option("--vocab", help="Text: JSON file of the tokenizer.")] = None
    memory_mb: Annotated[
        int | None,
        typer.Option(
            "--memory-mb", help="Largest stream of samples held in memory; a larger one goes to a temporary file."
        ),
    ] = None

    def options(self) -> "ReadOptions":
        """Return the options of the readers."""
        from onnxopt.samples.options import ReadOptions

        given = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen = {k: v for k, v in given.items() if v is not None}
        for name, kind in (("size", int), ("mean", float), ("std", float)):
            if name in chosen:
                chosen[name] = _numbers(f"--{name}", chosen[name], kind)
        if len(chosen.get("size", ())) == 1:
            chosen["size"] = chosen["size"][0]
        return ReadOptions(**chosen)
