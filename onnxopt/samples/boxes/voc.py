"""Boxes in Pascal VOC's XML: one file per image."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from onnxopt.files import read_bytes
from onnxopt.samples.boxes.record import Annotation, damaged

Objects = list[tuple[str, tuple[float, ...], bool]]


def read_voc(paths: Sequence[Path]) -> list[Annotation]:
    """Return the annotations of every file; classes are the sorted names of all files, counted from 0.

    Raises:
        DataError: ONX206 a file is something else.
    """
    read = [_objects(path) for path in paths]
    names = sorted({name for _, objects in read for name, _, _ in objects})
    return [
        Annotation.of(
            file,
            [box for _, box, _ in objects],
            [names.index(name) for name, _, _ in objects],
            where=str(path),
            ignored=[difficult for _, _, difficult in objects],
        )
        for path, (file, objects) in zip(paths, read, strict=True)
    ]


def _objects(path: Path) -> tuple[str, Objects]:
    """Return the image's file name, and name, box in shares and difficulty of each object."""
    content = read_bytes(path)
    # Entities can refer to other files or expand without end; data is not trusted, and these files need none.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content:
        raise damaged(str(path), "it declares a document type or entities", "Leave the declaration out.")
    try:
        root = ElementTree.fromstring(content)
        width, height = (float(_text(root, f"size/{side}")) for side in ("width", "height"))
        objects: Objects = []
        for entry in root.iter("object"):
            corners = [float(_text(entry, f"bndbox/{end}")) for end in ("xmin", "ymin", "xmax", "ymax")]
            # VOC counts pixels from 1, and the last one belongs to the box.
            sides = ((corners[0] - 1) / width, (corners[1] - 1) / height, corners[2] / width, corners[3] / height)
            objects.append((_text(entry, "name"), sides, (entry.findtext("difficult") or "0").strip() == "1"))
    except (ElementTree.ParseError, ValueError, ZeroDivisionError, LookupError) as error:
        hint = "Give VOC's annotation: size (width, height) and object (name, bndbox)."
        raise damaged(str(path), str(error), hint) from error
    return (root.findtext("filename") or path.stem).strip(), objects


def _text(element: ElementTree.Element, tag: str) -> str:
    text = element.findtext(tag)
    if text is None:
        raise ValueError(f"<{tag}> is missing")
    return text.strip()
