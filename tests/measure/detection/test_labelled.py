"""Average precision against labels, through the same judge as every other metric."""

import json
from pathlib import Path

import numpy as np
import pytest
import scenes
from detector_models import detector, images

from onnxopt.errors import DataError
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.detection.metric import AveragePrecision, Reading
from onnxopt.measure.tasks.detection.tables import Yolo
from onnxopt.measure.tasks.named import metric_of
from onnxopt.model_file import load, signature_of
from onnxopt.samples import Samples, open_samples

COUNT = 30
FOUND = scenes.scenes(COUNT, least=0)


def labelled(folder: Path, shift: int = 0) -> Samples:
    """Return the images with their boxes as COCO labels, without the categories below `shift`."""
    size = {"width": scenes.WIDTH, "height": scenes.HEIGHT}
    entries = [
        {"image_id": image, "category_id": int(c), "bbox": [*box[:2], *(box[2:] - box[:2])]}
        for image, scene in enumerate(FOUND)
        for box, c in zip(scene.boxes, scene.classes, strict=True)
    ]
    content = {
        "images": [{"id": image, "file_name": str(image), **size} for image in range(COUNT)],
        "categories": [{"id": c} for c in range(shift, scenes.CLASSES)],
        "annotations": entries,
    }
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    signature = signature_of(load(detector(folder / "model.onnx")))
    return open_samples({"image": images(FOUND)}, signature, labels=path)


def judge(folder: Path, name: str = "ap", **options: int) -> LabelJudge:
    samples = labelled(folder, min(options.get("label_offset", 0), 0))
    return LabelJudge(folder / "model.onnx", samples, Runtime(), metric_of(name, **options))


def test_a_detector_that_finds_all_boxes_and_no_other_is_perfect(tmp_path: Path) -> None:
    found = judge(tmp_path).baseline()
    assert found.value == 1
    assert found.n == COUNT


def test_a_box_half_as_wide_again_is_right_at_an_overlap_of_one_half_only(tmp_path: Path) -> None:
    wide = detector(tmp_path / "wide.onnx", np.array([1, 1, 1.5, 1, 1, 1, 1]))
    half, whole = judge(tmp_path, "ap50"), judge(tmp_path, "ap")
    assert half.drop(half.evaluate(wide)).value == 0
    assert whole.evaluate(wide).value == pytest.approx(0.4)
    assert whole.drop(whole.evaluate(wide)).probability_within(0.01) < 0.05


def test_a_class_that_is_lost_costs_its_share(tmp_path: Path) -> None:
    lame = detector(tmp_path / "lame.onnx", np.array([1, 1, 1, 1, 1, 0, 1]))
    whole = judge(tmp_path)
    assert whole.evaluate(lame).value == pytest.approx(2 / 3)


def test_outputs_are_read_as_the_baselines_are_whatever_a_candidate_gives(tmp_path: Path) -> None:
    # By itself this table would be taken for nothing: its sizes are below zero.
    broken = detector(tmp_path / "broken.onnx", np.array([1, 1, -1, -1, 1, 1, 1]))
    whole = judge(tmp_path)
    assert whole.evaluate(broken).value == 0


def test_the_label_offset_is_taken_off_the_models_classes(tmp_path: Path) -> None:
    # Labels begin one category lower, as they do for a model whose class 0 means background, and the other way round.
    assert judge(tmp_path, label_offset=-1).baseline().value == 1
    assert judge(tmp_path, label_offset=1).baseline().value < 0.5


def test_class_names_in_the_file_say_which_columns_are_scores(tmp_path: Path) -> None:
    # With a name for two of the three columns, the third is what follows the scores.
    names = {"names": "{0: 'a', 1: 'b'}"}
    samples = labelled(tmp_path)
    assert samples.labels is not None
    outputs = {
        "output0": np.concatenate((scenes.v8(FOUND)["output0"], np.full((COUNT, 2, 126), 7, np.float32)), axis=1)
    }
    ready = metric_of("ap").prepared(outputs, samples.labels, names)
    assert isinstance(ready, AveragePrecision)
    assert ready.reading == Reading(Yolo("output0", True, False, 2), pixels=True)
    with pytest.raises(DataError, match=r"ONX209.*--decode"):
        metric_of("ap").prepared(outputs, samples.labels)


def test_labels_that_are_no_boxes_are_one_clear_error(tmp_path: Path) -> None:
    model = detector(tmp_path / "model.onnx")
    samples = open_samples({"image": images(FOUND)}, signature_of(load(model)), labels=np.zeros(COUNT, int))
    with pytest.raises(DataError, match=r"ONX209.*not boxes.*COCO"):
        LabelJudge(model, samples, Runtime(), metric_of("ap")).baseline()


def test_scores_that_all_fall_are_losses_although_the_average_precision_stays(tmp_path: Path) -> None:
    faint = detector(tmp_path / "faint.onnx", np.array([1, 1, 1, 1, 0.1, 0.1, 0.1]))
    whole = judge(tmp_path)
    drop = whole.drop(whole.evaluate(faint))
    assert drop.value == 0
    assert drop.gross == 1
    assert drop.evened_out(0.5)
    same = whole.drop(whole.evaluate(tmp_path / "model.onnx"))
    assert (same.better, same.worse, same.gross) == (0, 0, 0)
