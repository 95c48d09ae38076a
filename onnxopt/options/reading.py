"""Options of the data readers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from typing_extensions import Doc

from onnxopt.errors import UsageError
from onnxopt.options.declared import Word

Layout = Literal["NCHW", "NHWC"]
Resize = Literal["squash", "crop", "letterbox"]
ChannelOrder = Literal["rgb", "bgr"]
MOST_HZ = 768_000
"""Of a sampling rate; recorders end there."""
_OF_MOST_MODELS = Word(default_shown=False)


def _image_size(text: str) -> int | tuple[int, ...]:
    """Read `224`, `224x192` or `224,192`."""
    sizes = tuple(map(int, text.replace("x", ",").split(",")))
    return sizes[0] if len(sizes) == 1 else sizes


@dataclass(frozen=True)
class ReadOptions:
    """Options of the readers; every one has a default that fits most models. The `Doc` of each field describes it.

    Of the ways to fit an image, `squash` ignores its proportions; `crop` cuts the centre out, of an image as it is
    unless `shortest_side` is given or it is smaller than the crop; `letterbox` fills the rest with `pad`, as YOLO does.
    The columns are found by their names: `label`, `labels`, `y` or `target`; `text` or `sentence`. A tokenizer is our
    own form or a Hugging Face tokenizer.json.

    Raises:
        UsageError: ONX101 a value is invalid.
    """

    resize: Annotated[Resize, _OF_MOST_MODELS, Doc("Images: method for fitting the input size.")] = "squash"
    pad: Annotated[int, _OF_MOST_MODELS, Doc("Images: pixel value beside a letterboxed image.")] = 114
    shortest_side: Annotated[int | None, Doc("Images: length of the shorter side before --resize crop.")] = None
    size: Annotated[
        int | tuple[int, int] | None,
        Word(metavar="H[xW]", read=_image_size),
        Doc("Images: height and width. Default: the model's."),
    ] = None
    divide_by: Annotated[float, _OF_MOST_MODELS, Doc("Images: divisor of the pixel values 0 to 255.")] = 255.0
    mean: Annotated[
        tuple[float, ...],
        Word(metavar="M[,M,M]", default_shown=False),
        Doc("Images: mean per channel, subtracted after the division."),
    ] = (0.0,)
    std: Annotated[
        tuple[float, ...],
        Word(metavar="S[,S,S]", default_shown=False),
        Doc("Images: standard deviation per channel, divides last."),
    ] = (1.0,)
    layout: Annotated[Layout | None, Doc("Images: axis order. Default: the model's.")] = None
    channel_order: Annotated[ChannelOrder, _OF_MOST_MODELS, Doc("Images: order of the colour channels.")] = "rgb"
    label_column: Annotated[str | None, Doc("Tables: column of labels.")] = None
    label_offset: Annotated[int, _OF_MOST_MODELS, Doc("Number added to each label: 1 if class 0 is background.")] = 0
    text_column: Annotated[str | None, Doc("Tables: column of text.")] = None
    sample_rate: Annotated[int | None, Doc("Sound: Hz that the model takes. Default: the files' own.")] = None
    window: Annotated[
        int | None,
        Doc(
            "Sound: samples per window. Default: the model's, or whole clips. Text of a model with states: tokens "
            "per step."
        ),
    ] = None
    vocab: Annotated[str | Path | None, Doc("Text: JSON file of the tokenizer.")] = None
    memory_mb: Annotated[
        int,
        _OF_MOST_MODELS,
        Doc("Largest stream of samples held in memory; a larger one goes to a temporary file."),
    ] = 256

    def __post_init__(self) -> None:
        sizes = self.size if isinstance(self.size, tuple) else (self.size,)
        wrong = {
            "resize": self.resize not in get_args(Resize),
            "pad": not 0 <= self.pad <= 255,
            "shortest_side": self.shortest_side is not None and self.shortest_side < 1,
            "size": len(sizes) > 2 or any(s is not None and s < 1 for s in sizes),
            "divide_by": self.divide_by == 0,
            "mean": len(self.mean) not in (1, 3),
            "std": len(self.std) not in (1, 3) or 0 in self.std,
            "layout": self.layout not in (None, *get_args(Layout)),
            "channel_order": self.channel_order not in get_args(ChannelOrder),
            "sample_rate": self.sample_rate is not None and not 1 <= self.sample_rate <= MOST_HZ,
            "window": self.window is not None and self.window < 1,
            "memory_mb": self.memory_mb < 0,
        }
        for name in (n for n, bad in wrong.items() if bad):
            raise UsageError(
                "ONX101", f"the value of {name} is invalid", where="reading options", why=f"got {getattr(self, name)!r}"
            )
