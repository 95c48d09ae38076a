import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from onnxopt.errors import DataError, UsageError
from onnxopt.measure.metrics.outputs import as_probabilities
from onnxopt.measure.tasks.named import METRICS, metric_of

TABLE_METRICS = ("auroc", "f1", "mae", "r2", "rmse", "top1", "top5")

RNG = np.random.default_rng(0)


def classifier(n, classes, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    labels[:classes] = np.arange(classes)
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += 1
    return logits, labels


def value(metric, outputs, labels):
    if not isinstance(outputs, dict):
        outputs = {"out": outputs}
    return metric.value(metric.rows(outputs, np.asarray(labels)))


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_classification_metrics_agree_with_scikit_learn(classes, seed):
    logits, labels = classifier(120, classes, seed)
    predicted = logits.argmax(axis=1)
    assert value(metric_of("top1"), logits, labels) == pytest.approx(sk.accuracy_score(labels, predicted))
    average = "binary" if classes == 2 else "macro"
    assert value(metric_of("f1"), logits, labels) == pytest.approx(sk.f1_score(labels, predicted, average=average))
    probabilities = as_probabilities(logits.astype(np.float64))
    expected = (
        sk.roc_auc_score(labels, probabilities[:, 1])
        if classes == 2
        else sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    )
    assert value(metric_of("auroc"), logits, labels) == pytest.approx(expected)
    assert value(metric_of("auroc"), probabilities.astype(np.float32), labels) == pytest.approx(expected, abs=1e-4)


def test_top5_agrees_with_scikit_learn():
    logits, labels = classifier(300, 9)
    assert value(metric_of("top5"), logits, labels) == pytest.approx(sk.top_k_accuracy_score(labels, logits, k=5))


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
def test_regression_metrics_agree_with_scikit_learn(shape):
    truth = RNG.normal(1000, 2, shape)
    predicted = (truth + RNG.normal(0, 1, shape)).astype(np.float32).reshape(50, -1)
    flat = truth.reshape(50, -1)
    assert value(metric_of("mae"), predicted, truth) == pytest.approx(sk.mean_absolute_error(flat, predicted))
    rmse = np.sqrt(((flat - predicted) ** 2).mean())
    assert value(metric_of("rmse"), predicted, truth) == pytest.approx(rmse)
    assert value(metric_of("r2"), predicted, truth) == pytest.approx(sk.r2_score(flat, predicted))


@pytest.mark.parametrize("name", TABLE_METRICS)
def test_counts_mean_the_same_as_repeated_rows(name):
    metric = metric_of(name)
    if name in ("mae", "r2", "rmse"):
        outputs, labels = RNG.normal(size=(30, 1)), RNG.normal(size=30)
    else:
        outputs, labels = classifier(30, 4 if name == "auroc" else 6)
    rows = metric.rows({"out": outputs}, labels)
    drawn = np.random.default_rng(1).integers(0, 30, (20, 30))
    counts = np.array([np.bincount(d, minlength=30) for d in drawn])
    expected = [metric.value(rows[d]) for d in drawn]
    np.testing.assert_allclose(metric.values(rows, counts), expected, rtol=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auroc_with_ties_is_the_probability_of_the_right_order(pairs):
    scores, positive = np.array([p[0] for p in pairs], np.float32), np.array([p[1] for p in pairs])
    measured = value(metric_of("auroc"), scores[:, None], positive.astype(int))
    if positive.all() or not positive.any():
        assert np.isnan(measured)
        return
    difference = scores[positive][:, None] - scores[~positive][None, :]
    assert measured == pytest.approx((np.sign(difference) / 2 + 0.5).mean())


def test_a_label_and_probabilities_as_scikit_learn_gives_them():
    labels, probabilities = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    outputs = {"label": probabilities.argmax(axis=1), "probabilities": probabilities}
    assert value(metric_of("top1"), outputs, labels) == pytest.approx(2 / 3)
    assert value(metric_of("top1", output="label"), outputs, labels) == pytest.approx(2 / 3)
    assert value(metric_of("auroc"), outputs, labels) == 1.0


def test_zipmap_scores_go_by_the_names_of_their_classes():
    maps = [{3: 0.1, 5: 0.9}, {3: 0.8, 5: 0.2}, {3: 0.3, 5: 0.7}]
    assert value(metric_of("top1"), {"p": maps}, [5, 3, 3]) == pytest.approx(2 / 3)
    assert value(metric_of("auroc"), {"p": maps}, [5, 3, 3]) == 1.0
    words = [{"cat": 0.1, "dog": 0.9}, {"cat": 0.8, "dog": 0.2}]
    assert value(metric_of("top1"), {"p": words}, ["dog", "dog"]) == 0.5
    with pytest.raises(DataError, match=r"ONX209.*top1"):
        metric_of("f1").rows({"p": words}, np.array(["dog", "dog"]))


def test_class_outputs_are_predictions_also_as_words():
    assert value(metric_of("top1"), np.array([1, 2, 0]), [1, 2, 2]) == pytest.approx(2 / 3)
    outputs = {"p": np.eye(2, dtype=np.float32), "label": np.array(["cat", "dog"], dtype=object)}
    assert value(metric_of("top1"), outputs, ["cat", "cat"]) == 0.5
    with pytest.raises(DataError, match=r"ONX209.*top1"):
        metric_of("top5").rows({"label": np.array([1, 2])}, np.array([1, 2]))


def test_label_offset_skips_a_background_class():
    scores = np.eye(4, dtype=np.float32)[[1, 2, 3]]
    assert value(metric_of("top1", label_offset=1), scores, [0, 1, 2]) == 1.0
    assert value(metric_of("top1", label_offset=1), scores.argmax(axis=1), [0, 1, 2]) == 1.0
    assert value(metric_of("f1", label_offset=1), scores, [0, 1, 2]) == 1.0
    assert value(metric_of("auroc", label_offset=1), scores, [0, 1, 2]) == 1.0
    with pytest.raises(DataError, match=r"ONX209.*label-offset"):
        metric_of("top1").rows({"out": scores}, np.array([2, 3, 4]))


def test_a_single_score_is_a_probability_by_default():
    assert value(metric_of("top1"), np.array([[0.2], [0.7]], np.float32), [0, 1]) == 1.0
    logits = np.array([[-2.0], [0.3]], np.float32)
    with pytest.raises(DataError, match=r"ONX209.*threshold"):
        metric_of("top1").rows({"out": logits}, np.array([0, 1]))
    assert value(metric_of("f1", threshold=0.0), logits, [0, 1]) == 1.0


def test_shapes_of_scores_that_exporters_leave():
    scores = np.eye(3, dtype=np.float32)
    assert value(metric_of("top1"), scores[:, :, None, None], [0, 1, 2]) == 1.0
    assert value(metric_of("top1"), scores, np.eye(3)) == 1.0  # one-hot labels
    tokens = np.eye(4, dtype=np.float32)[[[0, 1], [2, 3]]]
    metric = metric_of("top1")
    assert metric.rows({"out": tokens}, np.array([[0, 1], [2, 0]])).tolist() == [[1.0], [0.5]]
    pixels = np.moveaxis(np.eye(5, dtype=np.float32)[np.arange(12).reshape(1, 3, 4) % 5], -1, 1)
    assert value(metric, pixels, np.arange(12).reshape(1, 3, 4) % 5) == 1.0


def test_nan_is_never_right():
    scores = np.array([[np.nan, 0.0], [0.0, 1.0]], np.float32)
    assert value(metric_of("top1"), scores, [0, 1]) == 0.5
    assert value(metric_of("f1"), scores, [0, 1]) < 1
    assert np.isnan(value(metric_of("auroc"), scores, [0, 1]))
    assert np.isnan(value(metric_of("rmse"), np.array([np.nan, 1.0], np.float32), [0.0, 1.0]))
    single = np.array([[np.nan], [0.2]], np.float32)
    assert value(metric_of("top1"), single, [0, 0]) == 0.5


@pytest.mark.parametrize(
    ("name", "outputs", "labels"),
    [
        ("top1", np.eye(3, dtype=np.float32), [0.5, 1, 2]),
        ("top1", np.eye(3, dtype=np.float32), [-1, 1, 2]),
        ("top1", np.eye(3, dtype=np.float32), [0, 1]),
        ("top1", np.zeros((3, 1, 1), np.complex64), [0, 1, 2]),
        ("top1", np.array([0, 1]), [0, 1, 2]),
        ("auroc", np.array([0, 1]), [0, 1]),
        ("rmse", np.zeros((3, 2), np.float32), [0.0, 1.0, 2.0]),
        ("mae", np.zeros((1, 1), np.float32), ["a"]),
        ("mae", np.array(["a"]), [1.0]),
    ],
)
def test_what_does_not_fit_is_refused(name, outputs, labels):
    with pytest.raises(DataError, match="ONX209"):
        metric_of(name).rows({"out": outputs}, np.array(labels))


def test_a_missing_output_names_the_nearest():
    with pytest.raises(DataError, match=r"ONX209.*\[logit\].*logits"):
        metric_of("top1", output="logit").rows({"logits": np.eye(2)}, np.array([0, 1]))


def test_unknown_metrics_name_the_nearest():
    with pytest.raises(UsageError, match=r"ONX102.*auroc.*file\.py:function"):
        metric_of("aurok")


def test_direction_and_unit():
    assert [n for n in METRICS if not metric_of(n).higher_is_better] == ["cer", "mae", "perplexity", "rmse", "wer"]
    assert metric_of("top1").unit == "share"
    assert metric_of("top5").name == "top5"


def test_only_scores_with_a_perfect_one_have_points():
    without = {"mae", "perplexity", "psnr", "rmse", "si-sdr"}
    assert {name for name in METRICS if not metric_of(name).bounded} == without


def test_numbers_as_labels_for_a_model_that_gives_names():
    outputs = {"label": np.array(["cat", "dog"], dtype=object)}
    with pytest.raises(DataError, match=r"names such as 'cat', the labels are numbers.*Give the names"):
        value(metric_of("top1"), outputs, [0, 1])


@pytest.mark.parametrize("name", ["f1", "auroc", "top1"])
def test_tokens_of_a_sentence_are_one_sample_and_give_the_value_of_all_tokens(name):
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(20, 5, 3)), rng.integers(0, 3, (20, 5))
    metric = metric_of(name)
    rows = metric.rows({"y": scores.astype(np.float32)}, labels)
    flat = metric.rows({"y": scores.reshape(100, 3).astype(np.float32)}, labels.reshape(100))
    assert len(rows) == 20
    assert metric.value(rows) == pytest.approx(metric.value(flat))
    twice, weights = np.concatenate([rows, rows[:3]]), np.array([[2] * 3 + [1] * 17])
    assert metric.values(rows, weights)[0] == pytest.approx(metric.value(twice))


def test_labels_that_count_from_one_are_told_the_offset_that_mends_it() -> None:
    """The same message comes where `--label-offset 1` was given and there is no extra first class."""
    scores = np.eye(3, dtype=np.float32)
    with pytest.raises(DataError, match=r"labels 1 to 3, and the model has classes 0 to 2.*-1 if labels count from 1"):
        metric_of("top1").rows({"y": scores}, np.array([1, 2, 3]))
    with pytest.raises(DataError, match=r"labels 0 to 2, and the model has classes -1 to 1"):
        metric_of("top1", label_offset=1).rows({"y": scores}, np.array([0, 1, 2]))
