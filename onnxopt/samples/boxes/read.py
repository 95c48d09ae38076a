"""Assignment of files of boxes to samples."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from onnxopt.errors import DataError, nearest
from onnxopt.options.reading import ReadOptions
from onnxopt.samples.boxes.coco import read_coco
from onnxopt.samples.boxes.record import Annotation, ImageBoxes
from onnxopt.samples.boxes.voc import read_voc
from onnxopt.samples.boxes.yolo import read_yolo
from onnxopt.samples.core import Samples, Source
from onnxopt.samples.images import Images, refuse_outside
from onnxopt.samples.pixels import opened_image
from onnxopt.samples.placement import Placement, Size

IN_VIEW = 0.5
"""Smallest share of a box inside the input; a match with a box that is cut further is neither a hit nor a miss."""


def is_box_labels(labels: object) -> bool:
    """Return whether labels are files of boxes: a folder, or a JSON file."""
    return isinstance(labels, str | Path) and (Path(labels).is_dir() or Path(labels).suffix == ".json")


def read_boxes(labels: str | Path, source: Source | Samples, options: ReadOptions) -> np.ndarray:
    """Return `(n,)` objects, the `ImageBoxes` of each sample.

    Image files find their boxes by name; other samples take them in order: the order of a JSON file's `images`, or of
    the sorted names of a folder's files.

    Raises:
        DataError: ONX201 the file does not exist, ONX206 a file is damaged or does not fit the samples.
        UsageError: ONX108 pillow is not installed.
    """
    path = Path(labels)
    images = source if isinstance(source, Images) else None
    files = None if images is None else images.files
    found = _in_folder(path, files) if path.is_dir() else _in_order(read_coco(_existing(path)), files, str(path))
    if len(found) != len(source):
        why = f"{len(found)} images are labelled, and there are {len(source)} samples"
        hint = "Give a folder of image files as data, which find their labels by name."
        raise DataError("ONX206", "labels and samples differ in number", where=str(path), why=why, hint=hint)
    boxes = np.empty(len(found), dtype=object)
    for index, annotation in enumerate(found):
        boxes[index] = _placed(annotation, _placement(source, index, options), options.label_offset)
    return boxes


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError("ONX201", "the label file does not exist", where=str(path), hint="Check the path.")
    return path


def _in_folder(folder: Path, files: Sequence[Path] | None) -> list[Annotation]:
    refuse_outside(folder, [*folder.rglob("*.txt"), *folder.rglob("*.xml")])
    texts = {file.stem: file for file in sorted(folder.rglob("*.txt")) if file.stem != "classes"}
    if not texts:
        documents = sorted(folder.rglob("*.xml"))
        if not documents:
            why = "neither .txt files (YOLO) nor .xml files (Pascal VOC)"
            raise DataError("ONX206", "there are no labels in the folder", where=str(folder), why=why)
        return _in_order(read_voc(documents), files, str(folder))
    if files is None:
        return [read_yolo(file) for file in texts.values()]
    # YOLO's folders hold no file for an image without objects.
    if not any(file.stem in texts for file in files):
        raise _missing(files[0].name, texts, str(folder))
    nothing = Annotation.of("", [], [], where="")
    return [read_yolo(texts[file.stem]) if file.stem in texts else nothing for file in files]


def _in_order(found: Sequence[Annotation], files: Sequence[Path] | None, where: str) -> list[Annotation]:
    if files is None:
        return list(found)
    by_name: dict[str, list[Annotation]] = {}
    for one in found:
        for key in {one.name, Path(one.name).name, Path(one.name).stem}:
            by_name.setdefault(key, []).append(one)
    return [_of_image(file, by_name, where) for file in files]


def _of_image(file: Path, by_name: dict[str, list[Annotation]], where: str) -> Annotation:
    """Return the only annotation with the file's path, else with its name, else with its name without the suffix."""
    # The last folder of a path distinguishes images of one name in several folders.
    paths = ("/".join(file.parts[-depth:]) for depth in range(len(file.parts), 1, -1))
    for key in (*paths, file.name, file.stem):
        if len(by_name.get(key, ())) == 1:
            return by_name[key][0]
        if key in by_name:
            why = f"{len(by_name[key])} of them are called {key!r}"
            raise DataError("ONX206", f"the labels of {file.name!r} are not clear", where=where, why=why)
    raise _missing(file.name, by_name, where)


def _missing(name: str, known: Iterable[str], where: str) -> DataError:
    return DataError("ONX206", f"the labels have no image {name!r}", where=where, hint=nearest(name, list(known)[:20]))


def _placement(source: Source | Samples, index: int, options: ReadOptions) -> Placement:
    if isinstance(source, Images):
        return Placement.of(_image_size(source.files[index]), source.target.size, options)
    # Arrays were scaled by the user; boxes in shares of the image are right if the image was squashed.
    whole = source.source if isinstance(source, Samples) else source
    array = next((np.asarray(a) for a in whole.read(index).values() if np.ndim(a) == 3 + (not whole.stacks)), None)
    if array is None:
        raise DataError("ONX206", "boxes need images", where=source.name, why="no input has three axes per sample")
    shape = array.shape if whole.stacks else array.shape[1:]
    size = shape[1:] if shape[0] in (1, 3, 4) else shape[:2]
    return Placement.of((int(size[0]), int(size[1])), None, options)


def _image_size(path: Path) -> Size:
    with opened_image(path) as image:
        return image.height, image.width


def _placed(found: Annotation, place: Placement, offset: int) -> ImageBoxes:
    whole = place.boxes(found.boxes)
    seen = np.clip(whole, 0, 1)
    area, left = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (whole, seen))
    kept = left > 0
    cut = left < IN_VIEW * area
    return ImageBoxes(
        seen[kept], found.classes[kept] + offset, (found.ignored | cut)[kept], found.crowd[kept], place.size
    )
