import numpy as np
import pytest
from judged import OPTIONS, facts, lost, rows_of, score
from scipy import special, stats

from onnxopt.errors import DataError
from onnxopt.measure.tasks import tokens
from onnxopt.measure.tasks.named import metric_of
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.measure.tasks.tokens import TokenAgreement, scores
from onnxopt.measure.tasks.tokens.agreement import bin_of_quantile

RNG = np.random.default_rng(0)
AGREEMENT = TokenAgreement("y", "input_ids", "attention_mask")


def texts(n=6, steps=12, vocabulary=30):
    ids = RNG.integers(0, vocabulary, (n, steps))
    ids[0, 0] = vocabulary - 1
    mask = np.ones_like(ids)
    mask[:, 9:] = 0
    logits = RNG.normal(size=(n, steps, vocabulary)).astype(np.float32)
    logits[:, :-1] += 2 * np.eye(vocabulary, dtype=np.float32)[ids[:, 1:]]  # what comes next is the likeliest
    return logits, {"input_ids": ids, "attention_mask": mask}


def test_divergence_and_agreement_by_definition_without_padding():
    one, feeds = texts()
    other = one + 0.3 * RNG.normal(size=one.shape).astype(np.float32)
    p, q = (special.softmax(x[:, :9].astype(np.float64), axis=-1) for x in (one, other))
    nats = stats.entropy(p, q, axis=-1)
    rows = rows_of(AGREEMENT, one, other, feeds)
    assert AGREEMENT.value(rows) == pytest.approx(np.exp(-nats.mean()))
    details = AGREEMENT.details(rows)
    assert details["KL divergence, nats"] == pytest.approx(nats.mean())
    assert details["same best token"] == np.mean(p.argmax(-1) == q.argmax(-1))
    assert details["KL divergence, 99th percentile, nats"] == pytest.approx(np.quantile(nats, 0.99), rel=0.15)


def test_perplexity_is_torchs_cross_entropy():
    torch = pytest.importorskip("torch")
    logits, feeds = texts()
    labels = np.where(feeds["attention_mask"], feeds["input_ids"], -100)
    loss = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits[:, :-1].reshape(-1, 30)), torch.from_numpy(labels[:, 1:].reshape(-1))
    )
    metric = metric_of("perplexity")
    assert metric.value(metric.rows({"y": logits}, labels)) == pytest.approx(float(loss.exp()), rel=1e-5)
    details = AGREEMENT.details(rows_of(AGREEMENT, logits, logits, feeds))
    assert details["perplexity before"] == pytest.approx(float(loss.exp()), rel=1e-5)
    assert details["perplexity after"] == details["perplexity before"]


def test_perplexity_of_a_fair_guess_is_the_vocabulary():
    metric = metric_of("perplexity")
    labels = RNG.integers(0, 7, (3, 5))
    assert metric.value(metric.rows({"y": np.zeros((3, 5, 7), np.float32)}, labels)) == pytest.approx(7)
    assert metric.value(metric.rows({"y": np.full((3, 5, 7), 1 / 7, np.float32)}, labels)) == pytest.approx(7)


@pytest.mark.parametrize("labels", [np.zeros((3, 4), int), np.full((3, 5), 7), np.zeros((3, 5))])
def test_labels_that_are_no_tokens_of_the_inputs_are_refused(labels):
    with pytest.raises(DataError, match=r"ONX209.*token numbers of the inputs"):
        metric_of("perplexity").rows({"y": np.zeros((3, 5, 7), np.float32)}, labels)


def test_one_point_is_a_hundredth_of_a_nat():
    one, feeds = texts()
    rows = rows_of(AGREEMENT, one, one, feeds)
    assert AGREEMENT.value(rows) == 1
    rows[:, 0] = 0.01 * rows[:, 2]
    assert AGREEMENT.value(rows) == pytest.approx(0.99, abs=1e-4)


def test_long_sequences_are_cut_without_a_trace(monkeypatch):
    one, feeds = texts()
    other = one + 0.3 * RNG.normal(size=one.shape).astype(np.float32)
    whole = rows_of(AGREEMENT, one, other, feeds)
    labels = feeds["input_ids"]
    cost = metric_of("perplexity").rows({"y": one}, labels)
    monkeypatch.setattr(scores, "_CHUNK", 100)
    np.testing.assert_allclose(rows_of(AGREEMENT, one, other, feeds), whole, rtol=1e-12)
    np.testing.assert_allclose(metric_of("perplexity").rows({"y": one}, labels), cost, rtol=1e-12)


def test_a_token_made_impossible_and_nan_cost_all_and_masked_tokens_nothing():
    one, feeds = texts()
    banned = one.copy()
    banned[..., 3] = -np.inf
    assert score(AGREEMENT, banned, banned, feeds) == 1
    assert score(AGREEMENT, one, banned, feeds) < 0.5
    assert lost(AGREEMENT, one, np.full_like(one, np.nan), feeds).broken
    assert score(AGREEMENT, one, np.full_like(one, np.nan), feeds) < 1e-9
    assert score(AGREEMENT, one, one[:, :5], feeds) < 1e-9


def test_nan_is_nobodys_best_guess():
    one = np.zeros((2, 3, 4), np.float32)
    one[..., 0] = 5
    other = one.copy()
    other[..., 0] = np.nan
    unmasked = TokenAgreement("y")
    assert unmasked.details(rows_of(unmasked, one, other))["same best token"] == 0


def test_percentiles_come_from_bins_a_tenth_wide():
    assert bin_of_quantile(np.zeros(242), 0.99) == 0
    histogram = np.zeros(242)
    histogram[0], histogram[241] = 98, 2
    assert bin_of_quantile(histogram, 0.99) == pytest.approx(100)
    assert bin_of_quantile(histogram, 0.5) == 0


def test_language_models_are_recognized_with_tokens_and_mask():
    logits, feeds = texts()
    found = tokens.recognize({"logits": logits}, feeds, facts("logits"), OPTIONS)
    assert found.comparison == TokenAgreement("logits", "input_ids", "attention_mask")
    assert tokens.recognize({"y": logits}, feeds, facts(), OPTIONS).comparison == AGREEMENT


def test_the_cache_of_a_decoder_is_judged_by_the_scores_that_are_read_with_it():
    logits, feeds = texts()
    outputs = {"logits": logits, "present.0.key": logits[:, None], "present.0.value": logits[:, None], "other": logits}
    found = tokens.recognize(outputs, feeds, facts("logits"), OPTIONS)
    assert found.outputs == ("logits", "present.0.key", "present.0.value")
    assert found.comparison == TokenAgreement("logits", "input_ids", "attention_mask")
    assert "errors of the cache (present.0.key, ...) show there" in found.reason


def test_positions_are_no_tokens_however_large():
    logits, feeds = texts()
    named = {"input_ids": feeds["input_ids"], "position_ids": np.full_like(feeds["input_ids"], 29)}
    assert tokens.recognize({"y": logits}, named, facts(), OPTIONS).comparison.tokens == "input_ids"


def test_an_input_of_masked_tokens_is_no_mask():
    logits, feeds = texts()
    named = {"ids": feeds["input_ids"], "masked_ids": feeds["input_ids"]}
    assert tokens.recognize({"y": logits}, named, facts(), OPTIONS).comparison.mask is None


def test_a_model_that_fills_gaps_has_no_perplexity():
    logits, feeds = texts()
    logits = logits + 9 * np.eye(30, dtype=np.float32)[feeds["input_ids"]]
    assert tokens.recognize({"y": logits}, feeds, facts(), OPTIONS).comparison.tokens is None


def test_other_masks_are_named():
    logits, feeds = texts()
    named = {"ids": feeds["input_ids"], "valid": feeds["attention_mask"]}
    options = TaskOptions(mask="valid")
    assert tokens.recognize({"y": logits}, named, facts(), options).comparison.mask == "valid"
    with pytest.raises(DataError, match=r"ONX209.*no such input"):
        tokens.comparison({"y": logits}, (), facts(), TaskOptions(mask="other"), named)


def test_taggers_features_and_tables_are_no_language_models():
    _, feeds = texts(vocabulary=900)
    tagger = RNG.normal(size=(6, 12, 9)).astype(np.float32)
    for name, value, given in (
        ("y", tagger, feeds),
        ("last_hidden_state", np.zeros((6, 12, 1024), np.float32), feeds),
        ("y", np.zeros((6, 2), np.float32), feeds),
        ("y", np.zeros((6, 12, 2000), np.float32), {"x": np.zeros((6, 12), np.float32)}),
    ):
        assert tokens.recognize({name: value}, given, facts(name), OPTIONS) is None
