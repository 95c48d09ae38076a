"""The command line that reproduces a model."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from onnxopt.catalog import format_passes
from onnxopt.pipeline import Need, Pass
from onnxopt.samples import ReadOptions


@dataclass(frozen=True)
class Origin:
    """The names of model and data, as far as they have any.

    Attributes:
        calibration: data used only for calibration; None if a part of `data` is.
    """

    model: Path | None
    data: object
    calibration: object
    read: ReadOptions
    limit: int | None
    target: str
    seed: int


def repro_command(passes: Sequence[Pass], origin: Origin, out: str) -> str | None:
    """Return the `onnxopt apply` line that rebuilds the model; None if model or data were given in memory."""
    if origin.model is None:
        return None
    words = ["onnxopt", "apply", str(origin.model.absolute()), "--passes", format_passes(tuple(passes))]
    if any(Need.CALIBRATION in spec.needs for spec in passes):
        source = origin.calibration if origin.calibration is not None else origin.data
        if not isinstance(source, str | Path):
            return None
        words += ["--data", _anywhere(source)]
        if origin.calibration is None:
            words.append("--calibration-part")
            if origin.limit is not None:
                words += ["--limit", str(origin.limit)]
        words += _read_words(origin.read)
    words += ["--target", origin.target, "--seed", str(origin.seed), "-o", out]
    return shlex.join(words)


def _anywhere(value: object) -> str:
    """Return the word for `value`; for a file or folder the absolute path, which works from any folder."""
    if isinstance(value, str | Path) and Path(value).exists():
        return str(Path(value).absolute())
    return str(value)


def _read_words(read: ReadOptions) -> list[str]:
    words: list[str] = []
    for field in fields(read):
        value = getattr(read, field.name)
        # Calibration reads no labels, so it needs no label offset.
        if value == field.default or field.name == "label_offset":
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else _anywhere(value)
        words += [f"--{field.name.replace('_', '-')}", text]
    return words
