"""Labels of detectors: the boxes of every format, brought to the model's input as its pixels are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxopt.errors import DataError
from onnxopt.model_file import Signature, TensorSpec
from onnxopt.options.reading import ReadOptions
from onnxopt.samples import open_samples
from onnxopt.samples.boxes import ImageBoxes
from tests.numerics import EXACT_RELATIVE

SIGNATURE = Signature((TensorSpec("x", "float32", (None, 3, 40, 40)),), (TensorSpec("y", "float32", (None, 6, 50)),))
WIDTH, HEIGHT = 80, 40
BOX = (20, 10, 60, 30)
"""Left, top, right, bottom in pixels of the image."""


def write_images(folder: Path, names: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    """Write images that are black but for the box, which is white."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    for name in names:
        Image.fromarray(pixels).save(folder / name)
    return folder


def coco(folder: Path, **changes: Any) -> Path:
    size = {"width": WIDTH, "height": HEIGHT}
    bbox = [BOX[0], BOX[1], BOX[2] - BOX[0], BOX[3] - BOX[1]]
    content: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "b.png", **size}, {"id": 5, "file_name": "a.png", **size}],
        "categories": [{"id": 90, "name": "z"}, {"id": 3, "name": "y"}],
        "annotations": [
            {"image_id": 5, "category_id": 90, "bbox": bbox},
            {"image_id": 5, "category_id": 3, "bbox": [0, 0, WIDTH, HEIGHT], "iscrowd": 1},
        ],
    } | changes
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return path


def yolo(folder: Path, text: str | None = None) -> Path:
    labels = folder / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    center = ((BOX[0] + BOX[2]) / 2 / WIDTH, (BOX[1] + BOX[3]) / 2 / HEIGHT)
    size = ((BOX[2] - BOX[0]) / WIDTH, (BOX[3] - BOX[1]) / HEIGHT)
    (labels / "a.txt").write_text(text or "1 " + " ".join(map(str, (*center, *size))) + "\n")
    return labels


def voc(folder: Path, before: str = "") -> Path:
    labels = folder / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    box = f"<xmin>{BOX[0] + 1}</xmin><ymin>{BOX[1] + 1}</ymin><xmax>{BOX[2]}</xmax><ymax>{BOX[3]}</ymax>"
    for name, kind in (("a", "dog"), ("b", "cat")):
        (labels / f"{name}.xml").write_text(
            f"{before}<annotation><filename>{name}.png</filename>"
            f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
            f"<object><name>{kind}</name><difficult>{int(name == 'b')}</difficult><bndbox>{box}</bndbox></object>"
            "</annotation>"
        )
    return labels


def read(images: object, labels: Path, **options: Any) -> list[ImageBoxes]:
    found = open_samples(images, SIGNATURE, labels=labels, options=ReadOptions(**options)).labels
    assert found is not None
    return list(found)


def test_coco_boxes_find_their_images_by_name(tmp_path: Path) -> None:
    first, second = read(write_images(tmp_path / "images"), coco(tmp_path))
    np.testing.assert_allclose(first.boxes[0], [0.25, 0.25, 0.75, 0.75])
    assert first.classes.tolist() == [1, 0]
    assert (first.ignored.tolist(), first.crowd.tolist()) == ([False, True], [False, True])
    assert len(second) == 0
    assert first.size == (40, 40)


def test_yolo_boxes_find_their_images_by_name_and_an_image_without_a_file_has_none(tmp_path: Path) -> None:
    first, second = read(write_images(tmp_path / "images"), yolo(tmp_path))
    np.testing.assert_allclose(first.boxes, [[0.25, 0.25, 0.75, 0.75]])
    assert (first.classes.tolist(), len(second)) == ([1], 0)


def test_voc_boxes_count_pixels_from_one_and_difficult_ones_are_ignored(tmp_path: Path) -> None:
    first, second = read(write_images(tmp_path / "images"), voc(tmp_path))
    np.testing.assert_allclose(first.boxes, [[0.25, 0.25, 0.75, 0.75]])
    assert (first.classes.tolist(), second.classes.tolist()) == ([1], [0])
    assert (first.ignored.tolist(), second.ignored.tolist()) == ([False], [True])


@pytest.mark.parametrize(
    "options", [{}, {"resize": "crop"}, {"resize": "crop", "shortest_side": 60}, {"resize": "letterbox", "pad": 0}]
)
def test_boxes_lie_where_the_pixels_do(tmp_path: Path, options: dict[str, Any]) -> None:
    images = write_images(tmp_path / "images")
    found = read(images, coco(tmp_path), **options)[0]
    pixels = open_samples(images, SIGNATURE, options=ReadOptions(**options)).source.read(0)["x"][0]
    rows, columns = np.nonzero(pixels > 0.5)
    white = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 40
    np.testing.assert_allclose(found.boxes[0], white, rtol=0, atol=EXACT_RELATIVE)


def test_a_box_that_is_mostly_cut_off_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    entries = [
        {"image_id": 5, "category_id": 3, "bbox": [0, 0, 24, 40]},
        {"image_id": 5, "category_id": 3, "bbox": [0, 0, 48, 40]},
        {"image_id": 5, "category_id": 3, "bbox": [0, 0, 20, 40]},
    ]
    found = read(write_images(tmp_path / "images"), coco(tmp_path, annotations=entries), resize="crop")[0]
    assert found.ignored.tolist() == [True, False]


def test_a_letterbox_is_filled_with_its_pad(tmp_path: Path) -> None:
    options = ReadOptions(resize="letterbox", divide_by=1, pad=114)
    pixels = open_samples(write_images(tmp_path), SIGNATURE, options=options).source.read(0)["x"]
    assert (pixels[:, :10] == 114).all()
    assert (pixels[:, 30:] == 114).all()
    assert (pixels[:, 10] == 0).all()


def test_the_label_offset_is_added_to_the_classes(tmp_path: Path) -> None:
    first, _ = read(write_images(tmp_path / "images"), coco(tmp_path), label_offset=1)
    assert first.classes.tolist() == [2, 1]


def test_arrays_take_boxes_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((2, 3, 40, 40), np.float32))
    first, second = read(str(path), coco(tmp_path))
    assert (len(first), len(second)) == (0, 2)


def test_the_choice_of_samples_takes_their_boxes_along(tmp_path: Path) -> None:
    samples = open_samples(write_images(tmp_path / "images"), SIGNATURE, labels=coco(tmp_path))
    (batch,) = samples.select(np.array([1, 0])).batches()
    assert batch.labels is not None
    assert [len(label) for label in batch.labels] == [0, 2]


def test_the_fingerprint_is_of_the_boxes_content(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    one, same = (open_samples(images, SIGNATURE, labels=coco(tmp_path)).fingerprint for _ in range(2))
    moved = coco(tmp_path, annotations=[{"image_id": 5, "category_id": 3, "bbox": [0, 0, 21, 40]}])
    assert one == same != open_samples(images, SIGNATURE, labels=moved).fingerprint


@pytest.mark.parametrize(
    "text", ["1 0.5 0.5 0.2", "x 0.5 0.5 0.2 0.2", "1 40 20 8 8", "1 nan 0.5 0.2 0.2", "-1 0.5 0.5 0.2 0.2"]
)
def test_a_line_that_is_no_box_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"ONX206.*a\.txt"):
        read(write_images(tmp_path / "images"), yolo(tmp_path, text))


@pytest.mark.parametrize(
    "changes",
    [
        {"images": None},
        {"annotations": [{"image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]}]},
        {"annotations": [{"image_id": 5, "category_id": 4, "bbox": [0, 0, 1, 1]}]},
        {"annotations": [{"image_id": 5, "category_id": 3, "bbox": [0, 0, -1, 1]}]},
        {"images": [{"id": 5, "file_name": "other.png", "width": 80, "height": 40}], "annotations": []},
    ],
)
def test_a_json_file_that_does_not_fit_is_one_clear_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"ONX206.*labels\.json"):
        read(write_images(tmp_path / "images"), coco(tmp_path, **changes))


def test_entities_in_xml_are_refused(tmp_path: Path) -> None:
    before = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'
    with pytest.raises(DataError, match=r"ONX206.*entities"):
        read(write_images(tmp_path / "images"), voc(tmp_path, before))


def test_other_numbers_of_images_and_samples_are_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((3, 3, 40, 40), np.float32))
    with pytest.raises(DataError, match=r"ONX206.*2 images are labelled.*3 samples"):
        read(str(path), coco(tmp_path))


def test_images_of_one_name_in_two_folders_are_distinguished_by_the_folder(tmp_path: Path) -> None:
    write_images(tmp_path / "images" / "one", ("a.png",))
    write_images(tmp_path / "images" / "two", ("a.png",))
    size = {"width": WIDTH, "height": HEIGHT}
    listed = [{"id": 5, "file_name": "two/a.png", **size}, {"id": 7, "file_name": "one/a.png", **size}]
    first, second = read(tmp_path / "images", coco(tmp_path, images=listed))
    assert (len(first), len(second)) == (0, 2)
    names = [{"id": 5, "file_name": "a.png", **size}, {"id": 7, "file_name": "a.png", **size}]
    with pytest.raises(DataError, match=r"ONX206.*not clear"):
        read(tmp_path / "images", coco(tmp_path, images=names))
