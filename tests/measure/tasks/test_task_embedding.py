import numpy as np
import pytest
from judged import OPTIONS, facts, lost, rows_of, score
from sklearn.neighbors import NearestNeighbors

from onnxopt.errors import DataError
from onnxopt.measure.tasks import embedding, segmentation, sequence, signal, tokens
from onnxopt.measure.tasks.embedding import EmbeddingAgreement, neighbours
from onnxopt.measure.tasks.named import metric_of

RNG = np.random.default_rng(0)
AGREEMENT = EmbeddingAgreement("y")


def vectors(n=120, width=24, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def own_neighbours(index, queries, k):
    """Neighbours by an independent implementation, each sample itself left out."""
    found = NearestNeighbors(n_neighbors=len(index), metric="cosine").fit(index).kneighbors(queries)[1]
    return [[j for j in row if j != i][:k] for i, row in enumerate(found)]


def test_neighbours_kept_agree_with_scikit_learn():
    before = vectors()
    after = before + 0.3 * vectors(seed=1)
    details = AGREEMENT.details(rows_of(AGREEMENT, before, after))
    for k, name in ((1, "nearest kept"), (10, "nearest 10 kept")):
        pairs = zip(own_neighbours(before, before, k), own_neighbours(before, after, k), strict=True)
        assert details[name] == pytest.approx(np.mean([len(set(a) & set(b)) / k for a, b in pairs]))


def test_similarity_is_cosine_for_vectors_of_one_length_and_less_for_others():
    before = neighbours.unit(vectors().astype(np.float64))
    after = neighbours.unit(before + 0.1 * vectors(seed=1))
    details = AGREEMENT.details(rows_of(AGREEMENT, before, after))
    assert details["cosine and length"] == pytest.approx((before * after).sum(axis=1).mean(), rel=1e-6)
    louder = AGREEMENT.details(rows_of(AGREEMENT, before, 1.5 * before))
    assert louder["cosine and length"] == pytest.approx(2 * 1.5 / (1 + 1.5**2))
    assert louder["nearest 10 kept"] == 1


def test_a_model_agrees_with_itself_also_on_equal_samples():
    before = np.repeat(vectors(20), 3, axis=0)
    assert score(AGREEMENT, before, before) == 1
    noise = 1e-7 * vectors(60, seed=2)  # which of equal neighbours comes first is chance
    assert score(AGREEMENT, before, before + noise) == pytest.approx(1)


def test_the_least_of_the_figures_counts():
    before = vectors()
    rows = rows_of(AGREEMENT, before, before + 0.3 * vectors(seed=1))
    assert AGREEMENT.value(rows) == pytest.approx(min(AGREEMENT.details(rows).values()))


def test_blocks_of_queries_give_the_same_neighbours(monkeypatch):
    units = neighbours.unit(vectors().astype(np.float64))
    whole = neighbours.nearest_rows(units, units, 5)
    monkeypatch.setattr(neighbours, "_BLOCK", 7 * len(units))
    np.testing.assert_array_equal(neighbours.nearest_rows(units, units, 5), whole)


def test_resamples_weigh_samples_and_keep_their_neighbours():
    rows = rows_of(AGREEMENT, vectors(), vectors() + 0.3 * vectors(seed=1))
    counts = np.zeros((1, len(rows)), int)
    counts[0, 3] = len(rows)
    columns = [column[3] for column in AGREEMENT._columns(rows).values()]
    assert AGREEMENT.values(rows, counts)[0] == pytest.approx(min(columns))


def test_nan_and_zero_vectors_are_near_to_nothing():
    before = vectors()
    for value in (np.nan, 0.0):
        assert lost(AGREEMENT, before, np.full_like(before, value)).value > 0.9


def test_a_single_sample_has_no_neighbours():
    assert score(AGREEMENT, vectors(1), vectors(1)) == 1


def test_recall_against_labels_agrees_with_scikit_learn():
    labels = RNG.integers(0, 6, 120)
    outputs = vectors() + 0.8 * np.eye(24, dtype=np.float32)[labels]
    for k in (1, 10):
        metric = metric_of(f"recall{k}")
        found = own_neighbours(outputs, outputs, k)
        expected = np.mean([labels[i] in labels[row] for i, row in enumerate(found)])
        assert metric.value(metric.rows({"y": outputs}, labels)) == pytest.approx(expected)


def test_a_label_of_its_own_is_left_out_of_recall():
    metric = metric_of("recall1")
    outputs = np.array([[1, 0], [1, 0.1], [0, 1]], np.float32)
    assert metric.value(metric.rows({"y": outputs}, np.array([0, 0, 1]))) == 1
    assert np.isnan(metric.value(metric.rows({"y": outputs}, np.arange(3))))


def test_vectors_are_recognized_by_length_name_and_operator():
    units = neighbours.unit(vectors().astype(np.float64)).astype(np.float32)
    assert embedding.recognize({"y": units}, {}, facts(), OPTIONS).task == "embedding"
    assert embedding.recognize({"y": units[:, :, None, None]}, {}, facts(), OPTIONS).task == "embedding"
    assert embedding.recognize({"sentence_embedding": vectors()}, {}, facts(), OPTIONS).task == "embedding"
    assert embedding.recognize({"y": vectors()}, {}, facts(ends=("LpNormalization",)), OPTIONS).task == "embedding"


@pytest.mark.parametrize("ends", [(), ("Gemm",), ("Softmax",), ("LogSoftmax",)])
def test_class_tables_and_numbers_are_no_embeddings(ends):
    shares = np.exp(vectors()) / np.exp(vectors()).sum(axis=1, keepdims=True)
    sure = np.eye(24, dtype=np.float32)[RNG.integers(0, 24, 50)]
    for value in (vectors(), shares, np.log(shares), sure, vectors(width=4)):
        assert embedding.recognize({"y": value}, {}, facts(ends=ends), OPTIONS) is None


def test_wide_vectors_and_maps_are_refused():
    with pytest.raises(DataError, match=r"ONX209.*9000 numbers.*regression"):
        embedding.comparison({"y": np.zeros((2, 9000), np.float32)}, (), facts(), OPTIONS)
    with pytest.raises(DataError, match=r"ONX209.*no output has the shape of a table"):
        embedding.comparison({"y": np.zeros((2, 3, 4), np.float32)}, (), facts(), OPTIONS)


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        (segmentation, (2, 3, 4, 4)),
        (sequence, (2, 9, 5)),
        (embedding, (2, 9)),
        (signal, (2, 1, 90)),
        (tokens, (2, 9, 5)),
    ],
)
def test_of_several_outputs_none_goes_unjudged(task, shape):
    value = np.abs(RNG.normal(size=shape)).astype(np.float32)
    outputs = {"out": value, "aux": value}
    with pytest.raises(DataError, match=r"ONX209.*several outputs.*out, aux.*--output"):
        task.comparison(outputs, ("out", "aux"), facts(), OPTIONS)
    assert task.comparison(outputs, ("aux",), facts(), OPTIONS).output == "aux"
