"""Boxes in COCO's JSON: images, annotations and categories."""

from pathlib import Path
from typing import Any

from onnxopt.files import read_json
from onnxopt.samples.boxes.record import Annotation, damaged


def read_coco(path: Path) -> list[Annotation]:
    """Return the annotations of every image, in the order of the file's `images`.

    Classes are the categories in ascending order of their numbers, counted from 0.

    Raises:
        DataError: ONX206 the file has another form, or a box is invalid.
    """
    where = str(path)
    try:
        content = read_json(path)
        images = {image["id"]: image for image in content["images"]}
        numbers = sorted(category["id"] for category in content["categories"])
        classes = {number: index for index, number in enumerate(numbers)}
        found: dict[Any, list[Any]] = {image: [] for image in images}
        for entry in content["annotations"]:
            found[entry["image_id"]].append(entry)
        return [_annotation(image, found[number], classes, where) for number, image in images.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        hint = "Give COCO's instances: images (id, file_name, width, height), annotations (image_id, category_id, bbox)"
        raise damaged(where, why, f"{hint} and categories (id).") from error


def _annotation(image: dict[str, Any], entries: list[Any], classes: dict[Any, int], where: str) -> Annotation:
    width, height = float(image["width"]), float(image["height"])
    boxes = []
    for entry in entries:
        left, top, across, down = map(float, entry["bbox"])
        boxes.append((left / width, top / height, (left + across) / width, (top + down) / height))
    return Annotation.of(
        str(image["file_name"]),
        boxes,
        [classes[entry["category_id"]] for entry in entries],
        where=f"{where}, image {image['file_name']}",
        ignored=[bool(entry.get("ignore", 0)) for entry in entries],
        crowd=[bool(entry.get("iscrowd", 0)) for entry in entries],
    )
