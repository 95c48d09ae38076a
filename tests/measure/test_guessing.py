"""Scores of guesses from the labels alone, and the warning about a baseline that scores no better."""

import math

import numpy as np
import pytest
from measure_models import linear, samples_of

from onnxopt.measure.accuracy import evaluation_of
from onnxopt.measure.guessing import guess_of, hardly_better, little_better
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.named import METRICS, metric_of
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.samples.boxes import ImageBoxes

RNG = np.random.default_rng(3)
CLASSES = RNG.choice(4, 400, p=[0.4, 0.3, 0.2, 0.1])
EITHER = (RNG.random(400) < 0.3).astype(np.int64)
NUMBERS = RNG.normal(5, 2, (400, 3))
MASKS = RNG.choice(3, (30, 8, 8), p=[0.6, 0.3, 0.1])
TEXTS = np.array(["".join(RNG.choice(list("abcdefgh"), 6)) for _ in range(200)])


def scored(name, outputs, labels, **options):
    metric = metric_of(name, **options)
    outputs = {"y": outputs}
    metric = metric.prepared(outputs, labels)
    return evaluation_of(metric, metric.rows(outputs, labels), 0)


def always(kind, classes, n=400):
    return np.tile(np.eye(classes, dtype=np.float32)[kind], (n, 1))


@pytest.mark.parametrize(
    ("name", "outputs", "labels"),
    [
        ("top1", always(0, 4), CLASSES),
        ("top1", always(0, 4), np.eye(4)[CLASSES]),
        ("f1", always(1, 2), EITHER),
        ("auroc", always(1, 2), EITHER),
        ("r2", np.tile(NUMBERS.mean(axis=0), (400, 1)), NUMBERS),
        ("rmse", np.tile(NUMBERS.mean(axis=0), (400, 1)), NUMBERS),
        ("mae", np.tile(np.median(NUMBERS, axis=0), (400, 1)), NUMBERS),
        ("miou", np.tile(np.eye(3, dtype=np.float32)[0][:, None, None], (30, 1, 8, 8)), MASKS),
        ("pixel-accuracy", np.tile(np.eye(3, dtype=np.float32)[0][:, None, None], (30, 1, 8, 8)), MASKS),
    ],
)
def test_a_guess_gets_the_score_of_a_model_that_guesses_so(name, outputs, labels):
    found = scored(name, outputs, labels)
    assert guess_of(found.metric, labels).value == pytest.approx(found.value, abs=1e-6)
    assert "hardly better than a guess" in hardly_better(found, labels)


def test_guesses_of_the_other_metrics():
    assert guess_of(metric_of("top5"), np.arange(20)).value == 0.25
    assert guess_of(metric_of("f1"), CLASSES).value == 0.25
    assert guess_of(metric_of("exact"), np.array(["a", "b", "a", "c"])).value == 0.5
    assert guess_of(metric_of("ap"), np.array([None])).value == 0
    assert guess_of(metric_of("recall1"), np.arange(10).repeat(2)).value == pytest.approx(1 / 19)
    assert guess_of(metric_of("miou"), (MASKS == 2).astype(np.int64)).value == pytest.approx(np.mean(MASKS == 2))
    assert guess_of(metric_of("si-sdr"), NUMBERS).value == 0
    assert guess_of(metric_of("perplexity"), CLASSES) is None


def test_a_guess_of_a_text_is_the_text_of_another_sample_and_at_best_nothing():
    assert 0.6 < guess_of(metric_of("cer"), TEXTS).value < 1
    assert guess_of(metric_of("cer"), np.array(["ab", "cdefgh"] * 9)).value == 1
    assert guess_of(metric_of("wer"), np.array(["the cat", "the dog"] * 9)).value == 0.5
    assert guess_of(metric_of("cer"), np.array([[1, 2, -1], [1, 3, -1]])).value == 0.5


def test_a_picture_of_one_colour_is_the_guess_of_an_image():
    images = RNG.random((20, 1, 8, 8))
    found = scored("psnr", np.broadcast_to(images.mean(axis=(1, 2, 3), keepdims=True), images.shape).copy(), images)
    assert guess_of(found.metric, images).value == pytest.approx(found.value)
    assert not hardly_better(found, images)
    assert hardly_better(scored("psnr", np.roll(images, 1, axis=0), images), images)
    assert not hardly_better(scored("psnr", images + 0.01, images), images)


def test_every_metric_with_a_name_has_a_guess_but_perplexity():
    labels = {"exact": TEXTS, "cer": TEXTS, "wer": TEXTS, "miou": MASKS, "pixel-accuracy": MASKS, "psnr": NUMBERS}
    without = {name for name in METRICS if guess_of(metric_of(name), labels.get(name, CLASSES)) is None}
    assert without == {"perplexity"}


def right_in(share, n, classes=4, seed=0):
    """Return scores and labels of a model that is right for that share of the samples."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    said = np.where(rng.permutation(n) < round(share * n), labels, (labels + 1) % classes)
    return np.eye(classes, dtype=np.float32)[said], labels


@pytest.mark.parametrize(
    ("share", "n", "warns"),
    [
        (0.25, 400, True),
        (0.0, 400, True),
        (0.30, 400, True),
        (0.35, 400, True),  # little better
        (0.42, 400, True),
        (0.46, 400, False),
        (0.40, 30, True),
        (0.40, 10, False),  # so few are no proof
        (0.9, 400, False),
        (0.25, 16, True),
        (0.25, 8, False),
        (0.0, 16, True),
        (0.0, 8, False),
    ],
)
def test_the_warning_needs_to_be_sure(share, n, warns):
    outputs, labels = right_in(share, n)
    assert bool(hardly_better(scored("top1", outputs, labels), labels)) == warns


def test_numbers_in_the_wrong_order_warn_and_a_weak_model_does_not():
    truth, few = NUMBERS[:, :1], NUMBERS[:12, :1]
    flat = few.mean() + 0.5 * np.roll(few - few.mean(), 3, axis=0)
    for name in ("r2", "rmse", "mae"):
        assert hardly_better(scored(name, np.roll(truth, 1, axis=0), truth), truth), name
        assert not hardly_better(scored(name, truth + RNG.normal(0, 1.2, truth.shape), truth), truth), name
        assert not hardly_better(scored(name, flat, few), few), name


def test_labels_that_do_not_differ_show_nothing():
    same = np.zeros(50, np.int64)
    assert not hardly_better(scored("top1", always(1, 3, 50), same), same)
    assert not hardly_better(scored("rmse", np.full((50, 1), 0.2), np.full((50, 1), 0.1)), np.full((50, 1), 0.1))


def test_boxes_anywhere_warn_and_a_weak_detector_does_not():
    box = np.array([[0.1, 0.1, 0.4, 0.4]])
    labels = np.empty(24, dtype=object)
    labels[:] = [ImageBoxes(box, np.array([0]), np.zeros(1, bool), np.zeros(1, bool), (100, 100)) for _ in range(24)]

    def found(good):
        corners = np.where((np.arange(24) < good)[:, None, None], 100 * box[None], 100 * (box[None] + 0.5))
        table = np.concatenate((corners, np.full((24, 1, 1), 0.9), np.zeros((24, 1, 1))), axis=2)
        return scored("ap", table.astype(np.float32), labels, options=TaskOptions(decode="end2end"))

    assert found(0).value == 0
    assert "--decode" in hardly_better(found(0), labels)
    assert not hardly_better(found(8), labels)


def test_a_frequent_class_names_metrics_that_show_more():
    labels = np.array([0] * 1900 + [1] * 100)
    assert "--metric f1" in hardly_better(scored("top1", always(0, 2, 2000), labels), labels)
    assert "--metric f1" not in hardly_better(scored("top1", always(0, 4), CLASSES), CLASSES)


def test_the_words_state_the_score_the_guess_and_the_check():
    outputs, labels = right_in(0.25, 400)
    said = hardly_better(scored("top1", outputs, labels), labels)
    assert said.startswith("Warning: the baseline's top1 of 25.0 % on 400 samples is hardly better than a guess: ")
    assert "always naming the most frequent class of 4 gets 25.0 %" in said
    assert "--label-offset" in said
    assert "--channel-order" in said
    assert little_better(scored("top1", *right_in(0.4, 12)), right_in(0.4, 12)[1])


def test_undefined_scores_and_missing_labels_give_no_warning():
    outputs, labels = right_in(0.25, 400)
    found = scored("top1", outputs, labels)
    assert hardly_better(found, None) == little_better(found, None) == ""
    assert math.isnan(guess_of(metric_of("miou"), np.full((2, 4, 4), 255)).value)


def test_the_judge_warns_with_the_baseline_alone():
    x = RNG.normal(size=(200, 3)).astype(np.float32)
    right, wrong = x.argmax(axis=1), np.roll(x.argmax(axis=1), 1)
    for labels, warns in ((right, False), (wrong, True)):
        judge = LabelJudge(linear(np.eye(3)), samples_of(x, labels), Runtime(), metric_of("top1"))
        assert bool(judge.baseline().warning) == warns
        assert not judge.evaluate(linear(np.eye(3))).warning


@pytest.mark.parametrize(
    ("share", "labels", "hint"),
    [
        (0.30, np.arange(10).repeat(9), True),
        (0.40, np.arange(10).repeat(9), False),
        (0.95, np.array([0] * 95 + [1] * 5), True),
        (0.97, np.array([0] * 95 + [1] * 5), False),
        (0.30, np.zeros(10, np.int64), False),
    ],
)
def test_a_hint_of_evaluate_needs_no_certainty(share, labels, hint):
    right = np.arange(len(labels)) < round(share * len(labels))
    outputs = np.eye(11, dtype=np.float32)[np.where(right, labels, labels + 1)]
    assert bool(little_better(scored("top1", outputs, labels), labels)) == hint


def test_a_classifier_of_inputs_with_another_mean_is_warned_of_more_mildly():
    outputs, labels = right_in(0.35, 400)
    said = hardly_better(scored("top1", outputs, labels), labels)
    assert "is little better than a guess" in said
    assert "verdicts" not in said
    assert "--mean" in said
