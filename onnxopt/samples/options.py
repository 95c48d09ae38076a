"""Options of the data readers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from onnxopt.errors import UsageError

Layout = Literal["NCHW", "NHWC"]
Resize = Literal["squash", "crop", "letterbox"]
ChannelOrder = Literal["rgb", "bgr"]
MOST_HZ = 768_000
"""Of a sampling rate; recorders end there."""


@dataclass(frozen=True)
class ReadOptions:
    """Options of the readers; every one has a default that fits most models.

    Args:
        resize: `squash` scales an image to the size and ignores its proportions; `crop` cuts the centre out;
            `letterbox` scales it to fit and fills the rest with `pad`, as YOLO does.
        pad: pixel value (0..255) beside a letterboxed image.
        shortest_side: with `crop`, pixels to scale the shortest side to before cutting; None leaves an image as it is,
            unless it is smaller than the crop.
        size: height and width of an image in pixels, one number for a square; None takes the model's own.
        divide_by: pixels (0..255) are divided by this first; 1 keeps them.
        mean: subtracted after the division, one number or one per channel in the order the model sees.
        std: divides after that, one number or one per channel.
        layout: where the channels of an image are; None reads it from the model's input shape.
        channel_order: order of the colours the model was trained with.
        label_column: column of a table that holds the labels; None looks for `label`, `labels`, `y` or `target`.
        label_offset: added to every label, for example 1 when class 0 of the model means background.
        text_column: column of a table that holds text to tokenize; None looks for `text` or `sentence`.
        sample_rate: Hz that sound is resampled to; None takes that of the files, if it is one.
        window: sound: samples per window, for a model that takes any number; None takes whole clips. Of text that
            a model with states reads: tokens per step; None takes 1.
        vocab: JSON file of the tokenizer, our own form or a Hugging Face tokenizer.json.
        memory_mb: a stream larger than this goes to a temporary file.

    Raises:
        UsageError: ONX101 a value makes no sense.
    """

    resize: Resize = "squash"
    pad: int = 114
    shortest_side: int | None = None
    size: int | tuple[int, int] | None = None
    divide_by: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout | None = None
    channel_order: ChannelOrder = "rgb"
    label_column: str | None = None
    label_offset: int = 0
    text_column: str | None = None
    sample_rate: int | None = None
    window: int | None = None
    vocab: str | Path | None = None
    memory_mb: int = 256

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
                "ONX101", f"{name} makes no sense", where="reading options", why=f"got {getattr(self, name)!r}"
            )
