import contextlib
import io
from typing import Any

import numpy as np
import pytest

from onnxopt.measure.tasks.detection.average_precision import average_precision, records_array
from onnxopt.measure.tasks.detection.boxes import Detections, suppressed
from onnxopt.measure.tasks.detection.matching import Truth, record_of
from tests.numerics import FLOAT64_RELATIVE

CLASSES = 4
Image = tuple[Truth, Detections]


def some_images(seed: int, count: int = 30) -> list[Image]:
    """Return random objects, some of them crowds, and boxes near them, several per object, some of another class."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        objects = int(rng.integers(0, 7))
        low = rng.uniform(0, 80, (objects, 2))
        boxes = np.hstack((low, low + rng.uniform(5, 40, (objects, 2))))
        classes, crowd = rng.integers(0, CLASSES, objects), rng.random(objects) < 0.15
        near = rng.integers(0, objects, rng.integers(0, 3 * objects + 1)) if objects else np.zeros(0, int)
        moved = boxes[near] + rng.normal(0, 3, (len(near), 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        guess = np.where(rng.random(len(near)) < 0.8, classes[near], rng.integers(0, CLASSES, len(near)))
        images.append((Truth(boxes, classes, crowd, crowd), Detections.of(moved, rng.random(len(near)), guess, 0)))
    return images


def ours(images: list[Image], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    records = records_array([record_of(found, truth) for truth, found in images])[:, 0]
    return average_precision(records, counts, slice(None)), average_precision(records, counts, slice(0, 1))


def reference(images: list[Image], counts: np.ndarray, library: str) -> tuple[float, float]:
    """Return AP@[.5:.95] and AP@.5 of a library; an image drawn twice is there twice."""
    if library == "pycocotools":
        module: Any = pytest.importorskip("pycocotools.cocoeval", reason="the reference implementation")
        coco, evaluation = pytest.importorskip("pycocotools.coco").COCO, module.COCOeval
    else:
        module = pytest.importorskip("faster_coco_eval", reason="another implementation")
        coco, evaluation = module.COCO, module.COCOeval_faster
    drawn = [image for image, times in zip(images, counts, strict=True) for _ in range(times)]
    truth: dict[str, list[Any]] = {
        "images": [{"id": i + 1, "width": 100, "height": 100} for i in range(len(drawn))],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(CLASSES)],
        "annotations": [],
    }
    found = []
    for i, (there, boxes) in enumerate(drawn):
        for box, c, crowd in zip(there.boxes, there.classes, there.crowd, strict=True):
            shape = _coco_box(box)
            entry = {"bbox": shape, "area": shape[2] * shape[3], "iscrowd": int(crowd)}
            about = {"id": len(truth["annotations"]) + 1, "image_id": i + 1, "category_id": int(c) + 1}
            truth["annotations"].append(entry | about)
        for box, c, score in zip(boxes.boxes, boxes.classes, boxes.scores, strict=True):
            entry = {"image_id": i + 1, "category_id": int(c) + 1, "score": float(score)}
            found.append(entry | {"bbox": _coco_box(box)})
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco()
        known.dataset = truth
        known.createIndex()
        judge = evaluation(known, known.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


def _coco_box(box: np.ndarray) -> list[float]:
    return [*map(float, box[:2]), float(box[2] - box[0]), float(box[3] - box[1])]


@pytest.mark.parametrize("library", ["pycocotools", "faster_coco_eval"])
@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_the_reference_implementations(library: str, seed: int) -> None:
    images = some_images(seed)
    resample = np.random.default_rng(seed).multinomial(len(images), np.full(len(images), 1 / len(images)))
    counts = np.stack((np.ones(len(images), int), resample))
    whole, half = ours(images, counts)
    for i, drawn in enumerate(counts):
        expected = reference(images, drawn, library)
        assert (whole[i], half[i]) == pytest.approx(expected, rel=FLOAT64_RELATIVE)


def test_more_boxes_of_a_class_than_coco_looks_at_do_not_count() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 500, (150, 2))
    boxes = np.hstack((low, low + 5))
    none = np.zeros(150, bool)
    image = (Truth(boxes, np.zeros(150, int), none, none), Detections.of(boxes, rng.random(150), np.zeros(150), 0))
    one = np.ones((1, 1), int)
    assert ours([image], one)[0][0] == pytest.approx(reference([image], one[0], "pycocotools")[0], rel=FLOAT64_RELATIVE)
    assert ours([image], one)[0][0] < 0.7


def test_without_any_object_the_average_precision_is_undefined() -> None:
    nothing = Truth(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool), np.zeros(0, bool))
    found = Detections.of(np.array([[0.0, 0, 5, 5]]), np.array([0.9]), np.array([0]), 0)
    assert np.isnan(ours([(nothing, found)], np.ones((1, 1), int))[0]).all()


def test_suppression_keeps_the_surest_of_overlapping_boxes_of_a_class() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 10], [30, 30, 40, 40]], float)
    found = Detections.of(boxes, np.array([0.6, 0.9, 0.5, 0.3]), np.array([0, 0, 1, 0]), 0.2)
    assert suppressed(found, 0.45).scores.tolist() == [0.9, 0.5, 0.3]


def test_boxes_that_are_not_finite_or_have_no_area_are_not_found() -> None:
    boxes = np.array([[0, 0, 5, 5], [0, 0, np.nan, 5], [5, 0, 0, 5], [0, 0, 5, 5]], float)
    scores = np.array([0.9, 0.9, 0.9, np.nan])
    assert len(Detections.of(boxes, scores, np.zeros(4), 0.1)) == 1
