"""Boxes in YOLO's text files: one per image, a line per box."""

from pathlib import Path

from onnxopt.files import read_text
from onnxopt.samples.boxes.record import Annotation, damaged


def read_yolo(path: Path) -> Annotation:
    """Return the boxes of one file: lines of class, center x, center y, width and height in shares of the image.

    Raises:
        DataError: ONX206 a line is something else.
    """
    boxes, classes = [], []
    try:
        lines = read_text(path).splitlines()
    except UnicodeDecodeError as error:
        raise damaged(str(path), "it is not text") from error
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        where = f"{path}, line {number}"
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise damaged(where, f"it holds {line[:40]!r}") from error
        if len(values) != 5 or values[0] != int(values[0]) or values[0] < 0:
            hint = "A line is: class, center x, center y, width, height, in shares of the image."
            raise damaged(where, f"it holds {line[:40]!r}", hint)
        if max(values[1:]) > 1.01:
            raise damaged(where, f"{max(values[1:]):g} is not between 0 and 1", "Divide pixels by the image's size.")
        c, x, y, width, height = values
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
        classes.append(int(c))
    return Annotation.of(path.stem, boxes, classes, where=str(path))
