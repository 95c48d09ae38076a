"""Outputs of detectors are told by evidence, and nothing else is taken for one."""

from typing import Any

import numpy as np
import pytest
import scenes

from onnxopt.errors import DataError, UsageError
from onnxopt.measure.tasks.detection import LAYOUTS, comparison, recognize
from onnxopt.measure.tasks.detection.agreement import DetectionAgreement
from onnxopt.measure.tasks.detection.pairs import ultraface_priors
from onnxopt.measure.tasks.detection.tables import Yolo
from onnxopt.measure.tasks.task import ModelFacts, TaskOptions
from tests.numerics import EXACT_RELATIVE

SOME = scenes.scenes(2)
CORNERS, SHARES = scenes.pair(SOME, background=True)
CENTERS, LOGITS = scenes.pair(SOME, background=False, logits=True)
ROWS = scenes.detections(SOME)
ONE = scenes.detections(SOME[:1])[0]
ONE = ONE[ONE[:, 4] > 0]
UNIT = np.array([scenes.WIDTH, scenes.HEIGHT, scenes.WIDTH, scenes.HEIGHT])


def ultraface() -> dict[str, np.ndarray]:
    priors = ultraface_priors(scenes.HEIGHT, scenes.WIDTH)
    boxes, scores = np.random.default_rng(0).normal(0, 0.3, (2, len(priors), 4)), np.full((2, len(priors), 2), 0.01)
    scores[..., 0] = 0.99
    for image, scene in enumerate(SOME):
        places = np.arange(len(scene.boxes)) * 3
        box = scene.boxes / UNIT
        prior = priors[places]
        boxes[image, places, :2] = ((box[:, :2] + box[:, 2:]) / 2 - prior[:, :2]) / prior[:, 2:] / 0.1
        boxes[image, places, 2:] = np.log((box[:, 2:] - box[:, :2]) / prior[:, 2:]) / 0.2
        scores[image, places] = np.column_stack((1 - scene.scores, scene.scores))
    return {"scores": scores.astype(np.float32), "boxes": boxes.astype(np.float32)}


def selected() -> dict[str, np.ndarray]:
    corners, shares = scenes.pair(SOME, background=False)
    picked = [
        (image, c, row)
        for image, scores in enumerate(shares)
        for row, one in enumerate(scores)
        for c, score in enumerate(one)
        if score > 0.3
    ]
    indices = np.array(picked, np.int64)
    return {"boxes": corners[..., [1, 0, 3, 2]], "scores": shares.swapaxes(1, 2), "indices": indices}


def tensorflow() -> dict[str, np.ndarray]:
    boxes = (ROWS[..., :4] / UNIT)[..., [1, 0, 3, 2]].astype(np.float32)
    return {
        "detection_boxes": boxes,
        "detection_classes": ROWS[..., 5],
        "detection_scores": ROWS[..., 4],
        "num_detections": (ROWS[..., 4] > 0).sum(axis=1).astype(np.float32),
    }


def numbered() -> np.ndarray:
    rows = [np.concatenate(([i], row[:4], row[[5, 4]])) for i, image in enumerate(ROWS) for row in image if row[4]]
    return np.array(rows, np.float32)


Case = tuple[str, dict[str, np.ndarray], tuple[float, ...], int]
CASES: dict[str, Case] = {
    "YOLO v5": ("yolo", {"output": scenes.yolo(SOME, objectness=True, per_cell=3)}, (1, 1), 2),
    "YOLO v8": ("yolo", scenes.v8(SOME), (1, 1), 2),
    "YOLO v8, rows down": ("yolo", {"output0": scenes.yolo(SOME, objectness=False)}, (1, 1), 2),
    "YOLOX": ("yolox", {"output": scenes.yolox(SOME)}, (1, 1), 2),
    "end to end": ("end2end", {"output0": ROWS}, (1, 1), 2),
    "end to end, numbered": ("end2end", {"output": numbered()}, (1, 1), 2),
    "rows and labels": ("end2end", {"dets": ROWS[..., :5], "labels": ROWS[..., 5].astype(np.int64)}, (1, 1), 2),
    "SSD": ("ssd", {"boxes": CORNERS, "scores": SHARES}, tuple(UNIT[:2]), 2),
    "YOLO v4": ("ssd", {"boxes": CORNERS[:, :, None], "confs": SHARES[..., 1:]}, tuple(UNIT[:2]), 2),
    "UltraFace": ("ultraface", ultraface(), tuple(UNIT[:2]), 2),
    "DETR": ("detr", {"logits": LOGITS, "pred_boxes": CENTERS}, tuple(UNIT[:2]), 2),
    "TensorFlow": ("lists", tensorflow(), tuple(UNIT[:2]), 2),
    "suppression outside of the boxes": ("selected", selected(), tuple(UNIT[:2]), 2),
    "torchvision": (
        "lists",
        {"boxes": ONE[:, :4], "labels": ONE[:, 5].astype(np.int64), "scores": ONE[:, 4]},
        (1, 1),
        1,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_layout_is_recognized_and_its_boxes_are_those_that_are_there(case: str) -> None:
    name, outputs, unit, size = CASES[case]
    feeds = {"image": scenes.FEEDS["image"][:size]}
    found = recognize(outputs, feeds, scenes.NO_FACTS, TaskOptions())
    assert found is not None
    assert f"layout {name}" in found.reason
    assert found.reason.rpartition("layout ")[2].rstrip(")") in LAYOUTS
    assert set(found.outputs) <= set(outputs)
    assert isinstance(found.comparison, DetectionAgreement)
    images = found.comparison.layout.detections(outputs, size, least=0.25, iou=0.45)
    for scene, one in zip(SOME, images, strict=False):
        order = np.argsort(-scene.scores)
        np.testing.assert_allclose(one.boxes * [*unit, *unit], scene.boxes[order], rtol=0, atol=EXACT_RELATIVE * 96)
        if case != "UltraFace":
            assert one.classes.tolist() == scene.classes[order].tolist()
        if case not in ("SSD", "DETR"):  # whose scores share a softmax with the background
            np.testing.assert_allclose(one.scores, scene.scores[order], rtol=EXACT_RELATIVE)


@pytest.mark.parametrize("least", [0.1, 1.0])
def test_offsets_are_recognized_where_every_box_is_larger_than_its_cell(least: float) -> None:
    """No logarithm of a size is below zero then, as in an image that large letters fill."""
    raw = scenes.yolox(SOME)
    raw[..., 2:4] = np.abs(raw[..., 2:4]) + least
    found = recognize({"output": raw}, scenes.FEEDS, scenes.NO_FACTS, TaskOptions())
    assert found is not None
    assert "are not decoded (layout yolox)" in found.reason


@pytest.mark.parametrize("unit", [1.0, 96.0])
def test_boxes_where_their_cells_are_need_no_decoding(unit: float) -> None:
    """In pixels, or in shares of the image; one size below zero is rounding."""
    decoded = scenes.yolo(SOME, objectness=True) / np.float32(unit)
    decoded[..., 4:] *= np.float32(unit)
    decoded[0, 3, 2] = -1e-4
    found = recognize({"output": decoded}, scenes.FEEDS, scenes.NO_FACTS, TaskOptions())
    assert found is not None
    assert "not decoded" not in found.reason


def rng_array(*shape: int, low: float = -3, high: float = 3) -> np.ndarray:
    return np.random.default_rng(1).uniform(low, high, shape).astype(np.float32)


def softmaxed(array: np.ndarray) -> np.ndarray:
    powers = np.exp(array)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


OTHERS: dict[str, dict[str, Any]] = {
    "class scores": {"logits": rng_array(2, 10)},
    "class probabilities": {"p": softmaxed(rng_array(2, 10))},
    "four numbers": {"y": rng_array(2, 4, high=90)},
    "a row of six numbers": {"y": rng_array(2, 1, 6, low=0, high=1)},
    "key points": {"points": rng_array(2, 68, 2, low=0, high=96)},
    "heat maps": {"maps": rng_array(2, 17, 16, 24, low=0, high=1)},
    "a segmentation": {"masks": rng_array(2, 3, 64, 96)},
    "a depth map": {"depth": rng_array(2, 64, 96, low=0, high=1)},
    "a picture": {"picture": rng_array(2, 3, 64, 96, low=0, high=1)},
    "text lines": {"ctc": softmaxed(rng_array(2, 126, 40))},
    "text lines of logits": {"ctc": rng_array(2, 126, 40)},
    "hidden states": {"last_hidden_state": rng_array(2, 197, 64)},
    "two heads": {"age": rng_array(2, 1), "gender": softmaxed(rng_array(2, 2))},
    "pose and shape": {"pose": rng_array(2, 24, 4), "shape": rng_array(2, 24, 10, low=0, high=1)},
    "one row of corners, score and class": {"y": ROWS[:, :1]},
    "corners, a score and a length": {"y": ROWS + np.array([0, 0, 0, 0, 0, 0.5], np.float32)},
    "a few regions with their kinds": {"regions": CORNERS[:, :8], "kinds": SHARES[:, :8]},
    "nothing": {"empty": np.zeros((2, 0, 6), np.float32)},
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_no_detector_is_not_taken_for_one(case: str) -> None:
    assert recognize(OTHERS[case], scenes.FEEDS, scenes.NO_FACTS, TaskOptions()) is None


def test_a_model_that_sees_no_image_is_no_detector() -> None:
    feeds = {"x": np.zeros((2, 40), np.float32)}
    assert recognize(scenes.v8(SOME), feeds, scenes.NO_FACTS, TaskOptions()) is None


@pytest.mark.parametrize(
    "outputs",
    [
        {"output0": np.zeros((1, 100, 6), np.float32)},
        {
            "boxes": np.zeros((0, 4), np.float32),
            "labels": np.zeros(0, np.int64),
            "scores": np.zeros(0, np.float32),
        },
    ],
)
def test_nothing_found_is_believed_of_a_graph_that_suppresses_overlaps(outputs: dict[str, np.ndarray]) -> None:
    feeds = {"image": scenes.FEEDS["image"][:1]}
    assert recognize(outputs, feeds, scenes.NO_FACTS, TaskOptions()) is None
    facts = ModelFacts(operators=frozenset({"NonMaxSuppression"}))
    assert recognize(outputs, feeds, facts, TaskOptions()) is not None


def test_class_names_in_the_file_say_how_many_columns_are_scores() -> None:
    table = scenes.yolo(SOME, objectness=False)
    points = rng_array(*table.shape[:2], 6, low=0, high=96)
    outputs = {"output0": np.concatenate((table, points), axis=2).swapaxes(1, 2)}
    facts = ModelFacts(metadata={"names": "{0: 'a', 1: 'b', 2: 'c'}"})
    assert recognize(outputs, scenes.FEEDS, scenes.NO_FACTS, TaskOptions()) is None
    found = recognize(outputs, scenes.FEEDS, facts, TaskOptions())
    assert found is not None
    assert "3 class scores" in found.reason


def test_class_names_are_never_run_as_code() -> None:
    facts = ModelFacts(metadata={"names": "__import__('os').getcwd()"})
    assert recognize(scenes.v8(SOME), scenes.FEEDS, facts, TaskOptions()) is not None


def test_a_named_layout_needs_no_evidence() -> None:
    outputs = {"y": rng_array(2, 9, 40)}
    assert recognize(outputs, scenes.FEEDS, scenes.NO_FACTS, TaskOptions()) is None
    found = recognize(outputs, scenes.FEEDS, scenes.NO_FACTS, TaskOptions(decode="yolov5"))
    assert found is not None
    assert found.comparison == DetectionAgreement(Yolo("y", True, True, 4))
    assert found.reason.startswith("--decode names")


def test_an_unknown_layout_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"ONX102.*yolov8"):
        comparison(scenes.v8(SOME), (), scenes.NO_FACTS, TaskOptions(decode="yolov9000"))


def test_outputs_that_cannot_have_the_layout_are_an_error_that_shows_them() -> None:
    with pytest.raises(DataError, match=r"ONX209.*y \[2, 10\]"):
        comparison({"y": rng_array(2, 10)}, (), scenes.NO_FACTS, TaskOptions(decode="ssd"))
    with pytest.raises(DataError, match=r"ONX209.*--decode"):
        comparison({"y": rng_array(2, 10)}, (), scenes.NO_FACTS, TaskOptions())
