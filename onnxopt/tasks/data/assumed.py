"""Assumptions of the readers about data, in words, where the data does not state them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from onnxopt.measure.generation.states import State
from onnxopt.samples import ReadOptions, Samples, Source
from onnxopt.samples.audio.clips import Clips
from onnxopt.samples.fit import Fitted
from onnxopt.samples.images import LABEL_FILE, Images
from onnxopt.samples.named import Random
from onnxopt.samples.tables import TABLE_SUFFIXES
from onnxopt.samples.text import SINGLE, TextSource


def assumed(samples: Samples, options: ReadOptions, states: Sequence[State], window: int | None) -> tuple[str, ...]:
    """Return a sentence for each assumption that was made about the data as it was read.

    Args:
        samples: the samples as they were opened, before any step.
        options: the options of the readers.
        states: the states that the model itself made.
        window: tokens per step, where a model with states reads text; None for the default of decoders.
    """
    source = samples.source.source if isinstance(samples.source, Fitted) else samples.source
    return (*_of(source, options), *_of_labels(source), *_of_states(source, states, window))


def _of(source: Source, options: ReadOptions) -> Iterator[str]:
    if isinstance(source, Images):
        yield from _of_images(source, options)
    elif isinstance(source, Clips):
        yield from _of_sound(source)
    elif isinstance(source, TextSource):
        fixed = source.length
        length = "as long as it is" if fixed is None else f"cut or filled up to {fixed} tokens"
        yield f"Text: tokens by {options.vocab}; each sentence is {length}."
    elif isinstance(source, Random):
        yield "Made-up numbers: good for latency, not for accuracy, and a poor choice for calibration."
    elif source.name.endswith(TABLE_SUFFIXES):
        yield "Table: columns named as the inputs, or else all columns but the label, in the order of the file."
    else:
        yield "Arrays: as they are; whatever scaling the model needs has been done."


def _of_images(source: Images, options: ReadOptions) -> Iterator[str]:
    target = source.target
    size = "at their own size" if target.size is None else f"to {target.size[0]} x {target.size[1]} by {options.resize}"
    colours = "grey" if target.channels == 1 else options.channel_order.upper()
    yield f"Images: {colours}, {size}, {target.layout}."
    if not target.is_float:
        yield "Pixels: 0 to 255, as the model takes whole numbers."
    elif (options.mean, options.std) == ((0.0,), (1.0,)):
        yield f"Pixels: divided by {options.divide_by:g}. Was the model trained with others? Give --mean and --std."
    else:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (options.mean, options.std))
        yield f"Pixels: divided by {options.divide_by:g}, minus {mean}, divided by {std}."


def _of_sound(source: Clips) -> Iterator[str]:
    resampled = sum(file.rate != source.rate for file in source.files)
    mixed = sum(file.channels > 1 for file in source.files)
    yield (
        f"Sound: {source.rate} Hz"
        + (f", {resampled} files resampled" if resampled else ", as the files are")
        + (f"; the mean of the channels in {mixed} files." if mixed else "; one channel.")
    )
    if source.length is None:
        yield "Sound: whole clips; --window cuts them."
    else:
        yield f"Sound: windows of {source.length} samples, one after another; the rest of a clip is left out."


def _of_labels(source: Source) -> Iterator[str]:
    files = isinstance(source, Images | Clips) and source.labels is not None
    if files and not (Path(source.name) / LABEL_FILE).is_file():
        yield "Labels: each sub-folder is a class, numbered from 0 in the sorted order of their names."
        other = _renumbered(Path(source.name))
        if other is not None:
            yield (
                f"Labels: the folders' names are numbers, and {other[1]} is class {other[0]}. Where they are the class "
                f"numbers, list the files in {LABEL_FILE} (file,label)."
            )


def _renumbered(folder: Path) -> tuple[int, str] | None:
    """Return the first class that has another number than its sub-folder's name says; None where names say none."""
    names = sorted(sub.name for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))
    if not all(name.isascii() and name.isdecimal() for name in names):
        return None
    return next(((index, name) for index, name in enumerate(names) if int(name) != index), None)


def _of_states(source: Source, states: Sequence[State], window: int | None) -> Iterator[str]:
    if not states:
        return
    start = (
        "each file"
        if isinstance(source, Clips)
        else "each sentence"
        if isinstance(source, TextSource)
        else "all samples"
    )
    pairs = ", ".join(f"{state.input.name} takes {state.output.name}" for state in states[:4])
    more = f" and {len(states) - 4} more" if len(states) > 4 else ""
    yield f"States: {pairs}{more} of the step before; zeros at the beginning of {start}. Others: --state INPUT=OUTPUT."
    if isinstance(source, TextSource) and window is None:
        yield (
            f"Text: the first half of each sentence in one step, then {SINGLE} single tokens of the rest; "
            "--window N reads N tokens per step."
        )
    elif isinstance(source, TextSource):
        yield f"Text: {window} token{'' if window == 1 else 's'} per step; --window changes that."
