"""Folders of images, decoded one at a time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxopt.errors import DataError
from onnxopt.model_file import Signature
from onnxopt.options.reading import ReadOptions
from onnxopt.samples.labels import class_labels
from onnxopt.samples.pixels import ImageInput, image_input, read_pixels
from onnxopt.samples.tables import read_table

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
LABEL_FILE = "labels.csv"


@dataclass(frozen=True, eq=False)
class Images:
    """Image files and their conversion for the model."""

    name: str
    files: Sequence[Path]
    labels: np.ndarray | None
    target: ImageInput
    options: ReadOptions
    stacks = True

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> dict[str, np.ndarray]:
        """Decode image `index`, shape (C, H, W) or (H, W, C)."""
        return {self.target.name: read_pixels(self.files[index], self.target, self.options)}


def is_image(path: Path) -> bool:
    """Return whether a file is an image, by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def open_images(folder: Path, signature: Signature, options: ReadOptions) -> Images:
    """Return the images under `folder`.

    With a `labels.csv` (columns `file`, `label`), the images are the files in it, in its order. With sub-folders, each
    is one class, counted from 0 in the sorted order of names, as in other frameworks. Else all images count,
    unlabelled.

    Raises:
        DataError: ONX201 damaged, ONX203 the model takes no images, ONX205 no images, ONX206 labels do not fit.
        UsageError: ONX108 pillow is not installed, ONX112 an option does not apply, ONX113 one is missing.
    """
    target = image_input(signature, options)
    files, labels = find_files(folder, signature, is_image, "images")
    return Images(str(folder), files, labels, target, options)


def find_files(
    folder: Path, signature: Signature, fits: Callable[[Path], bool], noun: str
) -> tuple[list[Path], np.ndarray | None]:
    """Return the files of one kind under `folder`, and their labels: by `labels.csv`, by sub-folder, or none.

    Raises:
        DataError: ONX201 a file lies elsewhere or does not exist, ONX206 labels do not fit.
    """
    labels: np.ndarray | None = None
    if (folder / LABEL_FILE).is_file():
        files, labels = _listed(folder, signature)
    else:
        classes = [sub for sub in sorted(folder.iterdir()) if sub.is_dir() and not sub.name.startswith(".")]
        pairs = [(file, index) for index, sub in enumerate(classes) for file in sorted(sub.rglob("*")) if fits(file)]
        loose = sorted(file for file in folder.iterdir() if fits(file))
        if pairs and loose:
            raise DataError(
                "ONX206",
                f"some {noun} are in class folders and some are not",
                where=str(folder),
                why=f"for example {loose[0].name}",
                hint="Move each into the folder of its class, or list all in labels.csv.",
            )
        files = loose or [file for file, _ in pairs]
        labels = np.array([index for _, index in pairs]) if pairs else None
    refuse_outside(folder, files)
    return files, labels


def refuse_outside(folder: Path, files: Iterable[Path]) -> None:
    """Refuse files outside the given folder, reached by a name or by a link.

    Raises:
        DataError: ONX201 a file is outside the folder.
    """
    root = folder.resolve()
    for file in files:
        if not file.resolve().is_relative_to(root):
            raise DataError(
                "ONX201",
                "a file lies outside the folder",
                where=str(file),
                why=f"only files in {folder} are read",
                hint="Copy it into the folder; names and links that lead out of it are not followed.",
            )


def _listed(folder: Path, signature: Signature) -> tuple[list[Path], np.ndarray]:
    path = folder / LABEL_FILE
    refuse_outside(folder, [path])
    table = read_table(path)
    if not {"file", "label"} <= table.keys():
        raise DataError(
            "ONX206",
            "the label file has other columns than `file` and `label`",
            where=str(path),
            why=f"columns: {', '.join(table)}",
        )
    files = [folder / str(name) for name in table["file"]]
    refuse_outside(folder, files)
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise DataError("ONX201", "a listed file does not exist", where=str(missing), hint=f"Correct {path}.")
    return files, class_labels(table["label"], signature)
