"""Options shared by commands; further ones are dataclasses of `onnxopt.options`, see `onnxopt.cli.groups`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from onnxopt.cli.config import read_config
from onnxopt.options.declared import about
from onnxopt.options.search import SearchOptions

Format = Literal["text", "json", "md"]
"""Format of the result on stdout."""


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
BATCH_SIZE = Annotated[int, typer.Option("--batch-size", help=about(SearchOptions, "batch_size"))]
SEQUENCE = Annotated[
    str | None, typer.Option("--sequence", metavar="128:0.3,1:0.7", help=about(SearchOptions, "sequence"))
]
HOT = Annotated[bool, typer.Option("--hot", help=about(SearchOptions, "hot"))]
SEED = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help=about(SearchOptions, "seed"))]
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
