import numpy as np
import pytest
from judged import OPTIONS, facts, lost, rows_of, score
from sklearn.metrics import accuracy_score, jaccard_score

from onnxopt.errors import DataError
from onnxopt.measure.tasks import segmentation
from onnxopt.measure.tasks.named import metric_of
from onnxopt.measure.tasks.segmentation import SegmentationAgreement
from onnxopt.measure.tasks.segmentation.maps import MapReading
from onnxopt.measure.tasks.task import TaskOptions

RNG = np.random.default_rng(0)
IMAGES = {"x": np.zeros((4, 3, 16, 24), np.float32)}
SCORES = SegmentationAgreement("y", MapReading("scores"))


def one_hot(classes, count):
    return np.moveaxis(np.eye(count, dtype=np.float32)[classes], -1, 1)


def measured(name, outputs, labels, **options):
    metric = metric_of(name, **options)
    return metric.value(metric.rows({"y": outputs}, labels))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_metrics_agree_with_scikit_learn(seed, layout):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(6, 5, 8, 9)).astype(np.float32)
    truth = rng.integers(0, 5, (6, 8, 9))
    found = logits.argmax(axis=1)
    outputs = logits if layout == "NCHW" else np.moveaxis(logits, 1, -1)
    expected = jaccard_score(truth.ravel(), found.ravel(), average="macro")
    assert measured("miou", outputs, truth) == pytest.approx(expected)
    assert measured("pixel-accuracy", outputs, truth) == pytest.approx(accuracy_score(truth.ravel(), found.ravel()))


def test_pixels_without_a_class_are_left_out():
    truth = RNG.integers(0, 4, (2, 8, 8))
    logits = one_hot(truth, 4)
    truth[:, :4] = 255
    logits[:, :, :4] = RNG.normal(size=(2, 4, 4, 8))
    assert measured("miou", logits, truth) == 1
    assert measured("pixel-accuracy", logits, truth) == 1


def test_binary_maps_are_judged_at_the_threshold():
    maps = RNG.random((5, 1, 8, 8)).astype(np.float32)
    truth = RNG.integers(0, 2, (5, 8, 8))
    for threshold in (0.3, 0.5):
        expected = jaccard_score(truth.ravel(), maps.ravel() > threshold)
        assert measured("miou", maps, truth, options=TaskOptions(map_threshold=threshold)) == pytest.approx(expected)


def test_resamples_mean_the_same_as_repeated_images():
    metric = metric_of("miou")
    rows = metric.rows({"y": RNG.normal(size=(12, 4, 6, 6)).astype(np.float32)}, RNG.integers(0, 4, (12, 6, 6)))
    drawn = RNG.integers(0, 12, (9, 12))
    counts = np.array([np.bincount(d, minlength=12) for d in drawn])
    np.testing.assert_allclose(metric.values(rows, counts), [metric.value(rows[d]) for d in drawn])
    np.testing.assert_allclose(SCORES.values(rows, counts), [SCORES.value(rows[d]) for d in drawn])


def test_masks_of_another_size_are_refused():
    with pytest.raises(DataError, match=r"ONX209.*one class number per pixel"):
        measured("miou", np.zeros((2, 3, 8, 8), np.float32), np.zeros((2, 4, 4), int))


def test_agreement_is_mean_iou_with_the_baselines_classes():
    one, other = (RNG.normal(size=(6, 3, 8, 8)).astype(np.float32) for _ in range(2))
    other = 3 * one + other
    found = [array.argmax(axis=1).ravel() for array in (one, other)]
    assert score(SCORES, one, one) == 1
    assert score(SCORES, one, other) == pytest.approx(jaccard_score(*found, average="macro"))
    details = SCORES.details(rows_of(SCORES, one, other))
    assert details["pixel agreement"] == pytest.approx(accuracy_score(*found))
    assert details["IoU of the worst class"] == pytest.approx(jaccard_score(*found, average=None).min())


def test_one_lost_class_of_two_hundred_counts():
    classes = np.arange(200).repeat(8).reshape(1, 40, 40)
    without = np.where(classes == 7, 8, classes)
    assert score(SCORES, one_hot(classes, 200), one_hot(without, 200)) == 0


def test_stray_pixels_of_the_baseline_do_not_count():
    classes = np.zeros((4, 200, 200), int)
    classes[:, :100] = 1
    clean = classes.copy()
    classes[0, 0, 0] = 2
    assert score(SCORES, one_hot(classes, 3), one_hot(clean, 3)) > 0.999


def test_a_text_map_that_vanishes_is_no_small_drop():
    maps = SegmentationAgreement("y", MapReading("binary"))
    before = np.zeros((20, 1, 64, 64), np.float32)
    before[:, :, 3:5, 3:5] = 0.9  # a tenth of a percent: pixels alone would agree
    assert lost(maps, before, np.zeros_like(before)).value == 1
    assert score(maps, np.zeros_like(before), np.zeros_like(before)) == 1
    assert score(maps, np.zeros_like(before), before) == 0


def test_nan_and_another_shape_keep_nothing():
    one = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    assert score(SCORES, one, np.full_like(one, np.nan)) == 0
    background = one_hot(np.zeros((2, 8, 8), int), 3)
    assert score(SCORES, background, np.full_like(background, np.nan)) == 0
    assert score(SCORES, one, one[:, :, :4]) == 0


def test_class_maps_and_probabilities_and_sigmoids_are_recognized():
    def found(value, ends=(), name="y"):
        return segmentation.recognize({name: value}, IMAGES, facts(name, ends=ends), OPTIONS)

    logits = RNG.normal(size=(4, 6, 16, 24)).astype(np.float32)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found(shares).comparison.reading == MapReading("scores", 1)
    assert found(np.moveaxis(shares, 1, -1)).comparison.reading == MapReading("scores", -1)
    assert found(shares[:, :, ::2, ::2], ends=("Transpose", "Cast", "Softmax")).task == "segmentation"
    assert found(logits, ends=("Conv",)).comparison.reading.kind == "scores"
    assert found(logits[..., ::4, ::4], name="seg_logits").comparison.reading.kind == "scores"
    assert found(logits.argmax(axis=1)).comparison.reading.kind == "classes"
    assert found(shares[:, :1], ends=("Squeeze", "Sigmoid")).comparison.reading == MapReading("binary", 1, 0.5)


@pytest.mark.parametrize(
    ("shape", "ends"),
    [
        ((4, 10), ("Gemm",)),
        ((4, 10), ("Softmax",)),
        ((4, 1), ("Sigmoid",)),
        ((4, 64, 4, 6), ("Relu",)),
        ((4, 64, 4, 6), ("Conv",)),
        ((4, 3, 16, 24), ("Tanh",)),
        ((4, 3, 16, 24), ("Conv",)),
        ((4, 10, 1, 1), ("GlobalAveragePool",)),
        ((4, 80, 4, 6), ("Sigmoid",)),
    ],
)
def test_tables_features_and_images_are_no_segmentation(shape, ends):
    value = RNG.random(shape).astype(np.float32)
    assert segmentation.recognize({"y": value}, IMAGES, facts(ends=ends), OPTIONS) is None


def test_the_users_word_is_taken_unless_there_is_no_map():
    compared = segmentation.comparison({"y": np.zeros((2, 3, 4, 4), np.float32)}, (), facts(), OPTIONS)
    assert compared.reading == MapReading("scores", 1)
    with pytest.raises(DataError, match=r"ONX209.*no output has the shape of a map"):
        segmentation.comparison({"y": np.zeros((2, 3), np.float32)}, (), facts(), OPTIONS)


def test_masks_may_be_a_multiple_of_the_outputs_size():
    truth = RNG.integers(0, 4, (2, 4, 6))
    larger = truth.repeat(4, axis=1).repeat(4, axis=2)
    logits = one_hot(truth, 4)
    assert measured("miou", logits, larger) == 1
    assert measured("miou", np.moveaxis(logits, 1, -1), larger) == 1
    assert measured("miou", truth.astype(np.int64), larger) == 1
    assert measured("miou", (truth > 1)[:, None].astype(np.float32), larger > 1) == 1
