import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import OPTIONS, facts, lost, rows_of, score

from onnxopt.errors import DataError, FileError
from onnxopt.measure.accuracy import drop, evaluation_of
from onnxopt.measure.tasks import sequence
from onnxopt.measure.tasks.named import metric_of
from onnxopt.measure.tasks.sequence import StepAgreement, TextAgreement, distance
from onnxopt.measure.tasks.sequence.decoding import Decoding, characters_of
from onnxopt.measure.tasks.task import TaskOptions

RNG = np.random.default_rng(0)
WORD = Decoding(0, 0, tuple("abc "))
IMAGE = {"x": np.zeros((3, 1, 32, 100), np.float32)}


def path(*rows, classes=5):
    return np.eye(classes, dtype=np.float32)[np.array(rows)]


def spelled(*texts, steps=40, characters="abcdefghijklmnopqrstuvwxyz "):
    """CTC scores of texts: every symbol once, a blank (class 0) between."""
    rows = np.zeros((len(texts), steps), int)
    for row, text in zip(rows, texts, strict=True):
        row[1 : 2 * len(text) : 2] = [characters.index(symbol) + 1 for symbol in text]
    return np.eye(len(characters) + 1, dtype=np.float32)[rows]


def measured(name, outputs, labels, **options):
    metric = metric_of(name, options=TaskOptions(**options))
    return metric.value(metric.rows({"y": outputs}, np.asarray(labels)))


def test_repeats_count_once_unless_a_blank_is_between():
    assert WORD.texts(path([0, 1, 1, 0, 1, 2, 2, 4, 3])) == ["aab c"]
    assert Decoding(0, 4, tuple("abcd")).texts(path([4, 0, 0, 1, 4, 1, 1, 3, 4])) == ["abbd"]
    assert Decoding(1, 0, tuple("abcd")).texts(path([0, 1, 1, 2], [2, 2, 0, 0]).transpose(1, 0, 2)) == ["ab", "b"]


@pytest.mark.parametrize(
    ("truth", "found", "wer", "cer"),
    [
        ("hello world", "hello duck", 1 / 2, 5 / 11),
        ("the quick brown fox", "the quick brown fox", 0, 0),
        ("kitten", "sitting", 1, 3 / 6),
        ("saturday", "sunday", 1, 3 / 8),
        ("the cat sat on the mat", "the cat sit on mat", 2 / 6, 5 / 22),
        ("word", "", 1, 1),
    ],
)
def test_error_rates_of_known_examples(truth, found, wer, cer):
    options = {"characters": "abcdefghijklmnopqrstuvwxyz ", "blank": 0}
    assert measured("wer", spelled(found), [truth], **options) == pytest.approx(wer)
    assert measured("cer", spelled(found), [truth], **options) == pytest.approx(cer)
    assert measured("exact", spelled(found), [truth], **options) == float(truth == found)


def test_rates_are_over_all_texts_and_not_the_mean_of_rates():
    options = {"characters": "abcdefghijklmnopqrstuvwxyz ", "blank": 0}
    scores = spelled("a", "abcdefghi")
    assert measured("cer", scores, ["b", "abcdefghi"], **options) == pytest.approx(1 / 10)


@settings(deadline=None)
@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_the_distance_without_a_package_is_the_packages(one, other):
    levenshtein = pytest.importorskip("rapidfuzz.distance.Levenshtein")
    assert distance.plain_distance(one, other) == levenshtein.distance(one, other)


def test_distances_need_no_package(monkeypatch):
    monkeypatch.setattr(distance, "find_spec", lambda name: None)
    assert distance.edit_distance("kitten", "sitting") == 3
    assert distance.edit_distance((1, 2, 3), ()) == 3
    assert distance.edit_distance(["the", "cat"], ["the", "dog"]) == 1


def test_class_numbers_may_be_labels():
    outputs = path([0, 1, 0, 2, 2], [3, 3, 0, 0, 0])
    assert measured("exact", outputs, [[1, 2, -1], [3, 1, -1]], blank=0) == 0.5
    assert measured("cer", outputs, [[1, 2, -1], [3, 1, -1]], blank=0) == 0.25


def test_texts_without_characters_are_refused_with_the_option():
    with pytest.raises(DataError, match=r"ONX209.*characters are not known.*--characters"):
        measured("exact", path([0, 1]), ["a"], blank=0)
    with pytest.raises(DataError, match=r"ONX209.*2 characters for 4 classes"):
        measured("exact", path([0, 1]), ["a"], blank=0, characters="ab")


def test_characters_come_from_a_file_or_a_text(tmp_path):
    file = tmp_path / "symbols.txt"
    file.write_text("a\nb\n \nä\n", encoding="utf-8")
    assert characters_of(str(file)) == ("a", "b", " ", "ä")
    assert characters_of("ab c") == ("a", "b", " ", "c")
    assert characters_of(None, "x\ny") == ("x", "y")
    assert characters_of("x\n\n ") == ("x", "", " ")
    with pytest.raises(FileError, match="ONX501"):
        characters_of(str(tmp_path / "none.txt"))


def test_the_metric_takes_the_blank_of_the_baseline():
    metric = metric_of("exact").prepared({"y": path([0, 0, 0, 1])}, np.array([[1]]))
    assert metric.decoding.blank == 0
    outputs = {"y": path([4, 4, 4, 1])}  # a candidate that gives class 4 instead of blanks
    assert metric.value(metric.rows(outputs, np.array([[1]]))) == 0


def test_gains_do_not_make_up_for_losses():
    # The candidate reads two texts better than before and two worse: against labels nothing changes.
    truth = ["ab", "ab", "ab", "ab"]
    before, after = spelled("ab", "ab", "a", "a"), spelled("a", "a", "ab", "ab")
    options = {"characters": "abcdefghijklmnopqrstuvwxyz ", "blank": 0}
    assert measured("exact", before, truth, **options) == measured("exact", after, truth, **options)
    agreement = TextAgreement("y", Decoding(0, 0))
    assert lost(agreement, before, after).value == 1


def test_one_sequence_is_one_sample():
    agreement = TextAgreement("y", Decoding(1, 0))
    before = spelled(*["abc"] * 64).transpose(1, 0, 2)
    after = before.copy()
    after[1, :16] = after[0, :16]  # one step of forty in a quarter of the texts
    rows = agreement.compare({"y": before}, {"y": after}, 64, {})
    assert len(rows) == 64
    assert agreement.value(rows) == 0.75
    assert agreement.details(rows) == {"character error rate against the baseline": 16 / 192}


def test_same_texts_are_right_or_wrong_for_the_interval():
    agreement = TextAgreement("y", Decoding(0, 0))
    before = spelled(*["ab"] * 60)
    result = lost(agreement, before, before)
    assert (result.better, result.worse) == (0, 0)
    # A bootstrap would draw 60 same texts every time; no difference in 60 is not yet a proof of one point.
    assert 0.3 < result.probability_within(0.01) < 0.9


def test_a_lost_entity_counts_though_most_steps_agree():
    rng = np.random.default_rng(1)
    classes = np.where(rng.random((50, 40)) < 0.005, 3, 0)
    classes[:, 0] = 1
    before = np.eye(4, dtype=np.float32)[classes]
    after = np.eye(4, dtype=np.float32)[np.where(classes == 3, 0, classes)]
    agreement = StepAgreement("y", Decoding())
    assert (before.argmax(-1) == after.argmax(-1)).mean() > 0.99
    assert score(agreement, before, after) == 0
    assert score(agreement, before, before) == 1


def test_rows_stay_small_with_many_classes():
    agreement = StepAgreement("y", Decoding())
    before = RNG.random((3, 4, 1025)).astype(np.float32)
    rows = rows_of(agreement, before, before)
    assert rows.shape == (3, 1)
    assert agreement.value(rows) == 1
    assert agreement.details(rows) == {"steps of the same class": 1}


def test_padding_is_left_out_of_steps():
    mask = np.array([[1, 1, 0, 0]] * 5)
    before, after = path(*[[1, 2, 0, 0]] * 5), path(*[[1, 2, 3, 4]] * 5)
    masked = StepAgreement("y", Decoding(), "attention_mask")
    assert score(masked, before, after, {"attention_mask": mask}) == 1
    assert score(StepAgreement("y", Decoding()), before, after) < 0.6


def recognized(value, feeds=IMAGE, options=OPTIONS, others=None, **fact):
    return sequence.recognize({"y": value, **(others or {})}, feeds, facts(**fact), options)


def test_time_major_scores_are_ctc_with_any_batch():
    scores = RNG.normal(size=(25, 3, 12)).astype(np.float32)
    found = recognized(scores)
    assert found.task == "sequence"
    assert found.comparison.decoding.batch_axis == 1
    assert found.comparison.decoding.blank is not None
    one = recognized(path([0] * 20 + [3] * 5, classes=12).transpose(1, 0, 2), {"x": IMAGE["x"][:1]})
    assert one.comparison.decoding == Decoding(1, 0)


def test_equally_long_axes_are_distinguished_by_the_declared_shape():
    scores = np.exp(spelled("a", "b", "c", steps=3)) / np.exp(spelled("a", "b", "c", steps=3)).sum(-1, keepdims=True)
    assert recognized(scores, shape=(3, "N", 28)).comparison.decoding.batch_axis == 1
    assert recognized(scores, shape=("N", 3, 28)).comparison.decoding.batch_axis == 0


def test_the_blank_is_the_end_class_that_most_steps_have():
    last = np.full((3, 30), 9)
    last[:, ::4] = np.arange(8)
    assert recognized(np.eye(10, dtype=np.float32)[last] * 9).comparison.decoding.blank == 9
    assert recognized(spelled("ab", "c", "d") * 9).comparison.decoding.blank == 0
    given = TaskOptions(blank=3, characters="abcdefghijklmnopqrstuvwxyz ")
    assert recognized(spelled("ab", "c", "d"), options=given).comparison.decoding.blank == 3
    with pytest.raises(DataError, match=r"ONX209.*blank 99 of 28"):
        recognized(spelled("ab", "c", "d"), options=TaskOptions(blank=99))


def test_characters_in_the_file_make_text():
    found = recognized(path([0, 1, 1, 0] * 5, [0] * 20, [2] * 20), metadata={"character": "a\nb\nc"})
    assert found.comparison.decoding == Decoding(0, 0, ("a", "b", "c"))
    assert found.comparison.decoding.texts(path([1, 0, 4])) == ["a "]


def test_a_tagger_of_tokens_is_judged_by_step():
    feeds = {"input_ids": RNG.integers(0, 900, (3, 20)), "attention_mask": np.ones((3, 20), int)}
    found = recognized(RNG.normal(size=(3, 20, 9)).astype(np.float32), feeds)
    assert found.comparison == StepAgreement("y", Decoding(), "attention_mask")


@pytest.mark.parametrize("shape", [(3, 10), (3, 4), (3, 10, 1), (3, 1, 10), (3, 84, 2100), (3, 300, 6), (3, 25, 64)])
def test_tables_heads_and_features_are_no_sequences(shape):
    assert recognized(RNG.normal(size=shape).astype(np.float32)) is None


def test_language_models_reconstructions_and_boxes_are_no_sequences():
    ids = {"ids": RNG.integers(0, 50, (3, 20))}
    assert recognized(RNG.normal(size=(3, 20, 60)).astype(np.float32), ids) is None
    frames = {"x": RNG.normal(size=(3, 20, 16)).astype(np.float32)}
    shares = np.exp(frames["x"]) / np.exp(frames["x"]).sum(axis=-1, keepdims=True)
    assert recognized(shares, frames) is None
    anchors = np.repeat(shares, 6, axis=1)  # more of them than the image has columns
    assert recognized(anchors) is None
    assert recognized(anchors[:, :90]) is not None
    no_object = np.eye(21, dtype=np.float32)[np.full((3, 30), 20)]
    assert recognized(no_object, others={"boxes": np.zeros((3, 30, 4), np.float32)}) is None


def test_nan_reads_nothing():
    before = spelled("ab", "c")
    agreement = TextAgreement("y", Decoding(0, 0))
    assert score(agreement, before, np.full_like(before, np.nan)) == 0
    empty = spelled("", "")
    assert score(agreement, empty, np.full_like(empty, np.nan)) == 0
    assert rows_of(agreement, before, before[:, :30])[:, 0].tolist() == [1, 1]


def test_the_characters_in_the_models_file_read_texts_for_labels():
    scores, truth = spelled("kitten", "sitting"), np.array(["kitten", "sitting"])
    notes = {"character": "\n".join("abcdefghijklmnopqrstuvwxyz")}
    metric = metric_of("exact").prepared({"y": scores}, truth, notes)
    assert metric.rows({"y": scores}, truth).tolist() == [[1], [1]]
    with pytest.raises(DataError, match=r"ONX209.*characters"):
        metric_of("exact").prepared({"y": scores}, truth).rows({"y": scores}, truth)


@pytest.mark.parametrize(("name", "gross"), [("exact", 0.25), ("cer", 0.25)])
def test_texts_that_become_right_are_no_excuse_for_texts_that_become_wrong(name, gross):
    truth = np.array(["aa", "bb", "cc", "dd"])
    options = TaskOptions(blank=0, characters="abcdefghijklmnopqrstuvwxyz ")
    metric = metric_of(name, options=options)
    before = {"y": spelled("a b", "bb", "cc", "dd")}
    after = {"y": spelled("aa", "xy", "cc", "dd")}
    both = [evaluation_of(metric, metric.rows(outputs, truth), 0) for outputs in (before, after)]
    found = drop(*both)
    assert found.value <= 0
    assert (found.better, found.worse, found.gross) == (1, 1, gross)
    assert found.evened_out(0.1)
    assert not found.evened_out(gross)
