"""Decoders are read through their cache, and their speed and perplexity are those of known ones."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from onnxopt.measure.generation import speed as speeds
from onnxopt.measure.generation.memory import private_bytes
from onnxopt.measure.generation.perplexity import figures_of, mean_of, measure_perplexity, ratio_of, shares_of
from onnxopt.measure.generation.speed import Decoder, Length, measure_speed
from onnxopt.measure.generation.walk import Walk, generate
from onnxopt.measure.latency import Watch
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.tasks.generation.decoder import decoder_of
from tests import builders
from tests.measure.generation.decoders import VOCABULARY, causal, texts, whole

MODEL = causal()
DECODER, _ = decoder_of("model", MODEL)


def all_logits(tokens: np.ndarray) -> np.ndarray:
    """Return the logits of a run without a cache."""
    return builders.run(MODEL, whole(tokens), True)[0][0]


def walk() -> Walk:
    return DECODER.walk(Session(MODEL, Runtime()))


def test_reading_in_pieces_is_reading_at_once():
    (text,) = texts(1)
    reader = walk()
    pieces = [reader.feed(text[:5]), reader.feed(text[5:6]), reader.feed(text[6:])]
    np.testing.assert_allclose(np.concatenate(pieces), all_logits(text), atol=1e-5)


def test_generated_tokens_are_the_most_probable_ones_of_the_whole_text(monkeypatch):
    (prompt,) = texts(1, 6)
    fed: list[list[int]] = []
    reader = walk()
    plain = reader.feed
    monkeypatch.setattr(reader, "feed", lambda tokens: (fed.append(list(map(int, tokens))), plain(tokens))[1])
    generate(reader, prompt, 5, lambda: 0)
    text = list(map(int, prompt))
    for _ in range(4):
        text.append(int(all_logits(np.array(text))[-1].argmax()))
    assert fed == [text[:6], *([token] for token in text[6:])]


def test_the_first_token_and_the_rest_are_timed_apart_and_what_comes_between_is_not():
    now = [0]

    def feed(tokens):
        now[0] += 1000 if len(tokens) > 1 else 10
        return np.eye(3)[-1:]

    def between():
        now[0] += 7

    times = generate(SimpleNamespace(feed=feed), np.arange(4), 6, lambda: now[0], between)
    assert times == (1000, 5 * 10)


def loss_of(reader, text: np.ndarray, length: Length) -> tuple[float, int]:
    """Return the sum of a text's losses, and the number of its tokens that are predicted."""
    shares = shares_of(reader, text, length)
    return figures_of(shares, shares, text)[:2]


def test_the_loss_is_that_of_a_run_without_a_cache():
    (text,) = texts(1)
    logits = all_logits(text).astype(np.float64)[:-1]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wanted = -np.log(probability[np.arange(11), text[1:]]).sum()
    for prompt in (1, 4, 100):
        total, count = loss_of(walk(), text, Length(prompt, 100))
        assert count == 11
        assert total == pytest.approx(wanted, rel=1e-5)
    # 4 at once and 3 more: 7 tokens are read, and 6 of them predicted.
    assert loss_of(walk(), text, Length(4, 3))[1] == 6


def scripted(logits: np.ndarray) -> SimpleNamespace:
    """Return a reader that answers with the same logits always."""
    return SimpleNamespace(feed=lambda tokens: np.tile(logits, (len(tokens), 1)))


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary():
    total, count = loss_of(scripted(np.zeros(50)), np.arange(9), Length(4, 8))
    assert np.exp(total / count) == pytest.approx(50)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_infinite_loss(odd):
    assert loss_of(scripted(np.array([0.0, odd, 1.0])), np.array([0, 1, 2]), Length(1, 9)) == (float("inf"), 2)
    assert np.isfinite(loss_of(scripted(np.array([0.0, -np.inf, 1.0])), np.array([0, 2, 2]), Length(1, 9))[0])


def test_the_divergence_is_that_of_the_definition_and_counts_what_is_undefined_as_lost():
    text, shares = np.array([0, 1, 2]), np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    other = np.log([[0.25, 0.5, 0.25], [0.1, 0.2, 0.7]])
    wanted = (np.exp(shares) * (shares - other)).sum()
    loss, tokens, nats, same = figures_of(other, shares, text)
    assert (loss, tokens, nats, same) == pytest.approx((-np.log(0.5) - np.log(0.7), 2, wanted, 1))
    broken = np.where(np.arange(2)[:, None] == 1, np.nan, other)
    assert figures_of(broken, shares, text)[::3] == (float("inf"), 0)
    assert figures_of(broken, shares, text)[2] > 99


def test_a_baseline_that_gives_no_numbers_leaves_nothing_to_compare_with(monkeypatch):
    from onnxopt.measure.generation import perplexity

    def shares(reader, text, length):
        broken = np.isnan(next(iter(reader)))
        return np.full((3, 4), np.nan if broken else np.log(0.25))

    monkeypatch.setattr(perplexity, "shares_of", shares)
    monkeypatch.setattr(perplexity, "Session", lambda model, runtime: [model])
    decoders = {name: SimpleNamespace(model=value, walk=lambda session: session) for name, value in
                {"broken": np.nan, "sound": 1.0}.items()}  # fmt: skip
    found = measure_perplexity(decoders, [np.arange(4)] * 9, Length(2, 2), Runtime())
    assert found["broken"].value == float("inf")
    assert found["sound"].value == pytest.approx(4)
    assert found["sound"].ratio is found["sound"].divergence is found["sound"].same_token is None


def test_the_mean_of_a_token_weighs_texts_by_their_tokens():
    tokens = np.array([1.0, 9.0] * 5)
    found = mean_of(np.array([1.0, 0.0] * 5), tokens=tokens, seed=0)
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert found.low < 0.1 < found.high
    assert mean_of(np.ones(7), tokens=np.ones(7), seed=0) is None


def test_the_ratio_of_perplexities_is_over_the_same_texts():
    base = np.array([[10.0 + i, 5 + i] for i in range(20)])
    worse = base + np.array([0.1, 0]) * base[:, 1:]
    found = ratio_of(base, worse, 0)
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((np.exp(0.1),) * 3)
    noisy = base + np.array([1.0, 0]) * np.where(np.arange(20) % 2, 1, -1)[:, None]
    both = ratio_of(base, noisy, 0)
    assert both is not None
    assert both.low < 1 < both.high
    assert ratio_of(base[:7], worse[:7], 0) is None
    assert ratio_of(base, np.where(base == 10, np.inf, base), 0) is None


def test_perplexity_counts_every_token_of_every_text_alike():
    read = texts(9)
    found = measure_perplexity({"a": DECODER, "b": DECODER}, [*read, read[0][:1]], Length(4, 100), Runtime())
    sums = [loss_of(walk(), text, Length(4, 100)) for text in read]
    assert found["a"].value == pytest.approx(np.exp(sum(s for s, _ in sums) / sum(n for _, n in sums)))
    assert (found["a"].tokens, found["a"].texts, found["a"].ratio) == (99, 9, None)
    assert found["b"].ratio is not None
    assert (found["b"].ratio.low, found["b"].ratio.high) == (1, 1)
    assert found["a"].divergence is found["a"].same_token is None
    assert found["b"].divergence is not None
    assert (found["b"].divergence.low, found["b"].divergence.high, found["b"].same_token) == (0, 0, 1)


class Host:
    """Sessions whose runs take a stated time, and the clock that shows it."""

    def __init__(self, costs: dict[int, tuple[int, int]], waiting: float = 0.0) -> None:
        self.costs, self.now, self.waiting = costs, 0, waiting

    def session(self, model, runtime):
        prompt_ns, step_ns = self.costs[id(model)]

        def run(feeds, names):
            count = feeds["input_ids"].shape[1]
            self.now += prompt_ns if count > 1 else step_ns
            return [np.zeros((1, count, VOCABULARY)), *(np.zeros((1, 1, 1)) for _ in names[1:])]

        return SimpleNamespace(run=run)

    def watch(self, pauses: bool = True) -> Watch:
        return Watch(lambda: self.now, lambda: self.now, lambda: int(self.waiting * self.now), pauses)


def timed(monkeypatch, host: Host, models: dict[str, object], *, pauses: bool = True, **options):
    monkeypatch.setattr(speeds, "Session", host.session)
    decoders = {name: Decoder(model, DECODER.ports, DECODER.start) for name, model in models.items()}
    return measure_speed(decoders, texts(3), Length(12, 5), Runtime(), seconds=0.6, watch=host.watch(pauses), **options)


def test_planted_speeds_are_found(monkeypatch):
    slow, fast = SimpleNamespace(), SimpleNamespace()
    host = Host({id(slow): (4_000_000, 1_000_000), id(fast): (2_000_000, 250_000)})
    found = timed(monkeypatch, host, {"slow": slow, "fast": fast})
    assert (found["slow"].first_token_ms, found["slow"].tokens_per_s) == pytest.approx((4, 1000))
    assert (found["fast"].first_token_ms, found["fast"].tokens_per_s) == pytest.approx((2, 4000))
    assert found["slow"].first_speedup is found["slow"].rate_speedup is None
    assert found["fast"].first_speedup.value == pytest.approx(2)
    assert found["fast"].rate_speedup.value == pytest.approx(4)
    assert found["fast"].text_speedup.value == pytest.approx((4 + 4 * 1) / (2 + 4 * 0.25))
    assert found["slow"].text_speedup is None
    assert found["slow"].texts == found["fast"].texts >= 6


def test_the_parts_of_a_text_have_their_weights(monkeypatch):
    slow, fast = SimpleNamespace(), SimpleNamespace()
    host = Host({id(slow): (4_000_000, 1_000_000), id(fast): (2_000_000, 250_000)})
    found = timed(monkeypatch, host, {"slow": slow, "fast": fast}, weights=(0.5, 3.0))
    assert found["fast"].text_speedup.value == pytest.approx((0.5 * 4 + 3 * 4) / (0.5 * 2 + 3 * 4 * 0.25))
    assert (found["fast"].first_speedup.value, found["fast"].rate_speedup.value) == pytest.approx((2, 4))


def test_threads_that_waited_leave_the_speed_unsure_where_the_clock_runs_on(monkeypatch):
    model = SimpleNamespace()
    host = Host({id(model): (1_000_000, 1_000_000)}, waiting=0.1)
    found = timed(monkeypatch, host, {"a": model, "b": model}, pauses=False)
    assert "waiting for a processor" in found["b"].first_unsure
    assert "waiting for a processor" in found["b"].rate_unsure
    assert found["b"].first_speedup is found["b"].rate_speedup is None
    assert not timed(monkeypatch, host, {"a": model, "b": model})["b"].rate_unsure


def test_a_rate_that_varies_too_much_leaves_the_first_token_known(monkeypatch):
    calm, restless = SimpleNamespace(), SimpleNamespace()
    host = Host({id(calm): (1_000_000, 1_000_000), id(restless): (2_000_000, 1_000_000)})
    loaded = iter(range(100))
    plain = host.session

    def session(model, runtime):
        if model is restless:
            host.costs[id(model)] = (2_000_000, 1_000_000 if next(loaded) % 2 else 3_000_000)
        return plain(model, runtime)

    monkeypatch.setattr(host, "session", session)
    found = timed(monkeypatch, host, {"calm": calm, "restless": restless})["restless"]
    assert "varied" in found.rate_unsure
    assert found.rate_speedup is None
    assert not found.first_unsure
    assert found.first_speedup.value == pytest.approx(0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the private memory")
def test_private_memory_has_the_weights_and_not_the_libraries():
    small, _ = decoder_of("small", causal())
    large, _ = decoder_of("large", causal(rows=500_000))  # 32 MB more
    prompt = texts(1)[0]
    sizes = [private_bytes(each, prompt, Length(12, 4), Runtime()) for each in (small, large)]
    assert None not in sizes
    assert sizes[0] < 16e6
    assert sizes[1] - sizes[0] > 30e6
