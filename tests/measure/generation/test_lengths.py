"""Decoders are timed on prompts with an empty cache, and on steps whose cache the model made of a prompt."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

import onnxopt
from onnxopt.errors import DataError, NativeError, UsageError
from onnxopt.measure.generation.lengths import length_batches
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import signature_of
from onnxopt.options.lengths import lengths_of
from onnxopt.samples import Feeds
from tests.builders import I64, F, Net
from tests.measure.generation.decoders import causal, grouped, texts, whole
from tests.tasks.parts.seq2seq import ROWS, WIDTH, decoder

PAST = "past_key_values.0.key"


def drawn(count: int = 3) -> list[dict[str, np.ndarray]]:
    """Return texts of 12 tokens, each a batch."""
    return [whole(text) for text in texts(count)]


def tokens(feeds: Feeds) -> list[int]:
    return [int(token) for token in np.ravel(feeds["input_ids"])]


def at(model: ir.Model, batches: list[dict[str, np.ndarray]], text: str) -> tuple[Feeds, ...]:
    return length_batches(model, batches, batches[0], lengths_of(text), Runtime()).alternating


def test_a_prompt_has_an_empty_cache_and_a_step_that_of_a_prompt() -> None:
    found = length_batches(causal(), drawn(), drawn()[0], lengths_of("8:0.3,1:0.7"), Runtime())
    assert Counter(len(tokens(feeds)) for feeds in found.alternating) == {8: 9, 1: 21}
    prompt, step = found.by_length[8], found.by_length[1]
    assert (prompt[PAST].shape[1], step[PAST].shape[1]) == (0, 8)
    text = texts(1)[0]
    assert tokens(prompt) + tokens(step) == text[:9].tolist()
    assert (step["position_ids"].tolist(), step["attention_mask"].shape) == ([[8]], (1, 9))
    # The model reads the step as it reads the whole text.
    session = Session(causal(), Runtime())
    (logits,) = session.run(step, ["logits"])
    (expected,) = session.run(whole(text[:9]), ["logits"])
    np.testing.assert_allclose(np.asarray(logits)[0, -1], np.asarray(expected)[0, -1], atol=1e-5)


def test_lengths_between_are_steps_of_several_tokens_behind_the_same_prompt() -> None:
    found = length_batches(causal(), drawn(), drawn()[0], lengths_of("6,4,1"), Runtime()).by_length
    assert [(len(tokens(feeds)), feeds[PAST].shape[1]) for feeds in found.values()] == [(6, 0), (4, 6), (1, 6)]


def test_a_prompt_goes_on_with_the_next_texts_and_each_begins_with_another() -> None:
    prompts = [feeds for feeds in at(causal(), drawn(), "30:0.5,1:0.5") if len(tokens(feeds)) > 1]
    one, two, three = (text.tolist() for text in texts(3))
    assert {tuple(tokens(feeds)) for feeds in prompts} == {
        (*one, *two, *three[:6]), (*two, *three, *one[:6]), (*three, *one, *two[:6])}  # fmt: skip


def test_padding_is_no_part_of_a_text_and_steps_bring_their_new_tokens_alone() -> None:
    padded, step = whole(np.array([7, 8, 9, 0, 0])), whole(np.array([5]))
    padded["attention_mask"] = np.array([[1, 1, 1, 0, 0]])
    step |= {"attention_mask": np.ones((1, 4), np.int64), PAST: np.zeros((1, 3, 16), np.float32)}
    found = length_batches(causal(), [padded, step], padded, lengths_of("6"), Runtime()).by_length[6]
    assert tokens(found) == [7, 8, 9, 5, 7, 8]
    assert found["attention_mask"].tolist() == [[1] * 6]


@pytest.mark.parametrize("make", [causal, grouped])
def test_several_texts_are_read_together(make) -> None:
    model = make()
    rows = [np.stack(texts(2)), np.stack(texts(2)[::-1])]
    batches = [{"input_ids": some, "attention_mask": np.ones_like(some)} for some in rows]
    prompt, step = length_batches(model, batches, batches[0], lengths_of("8,1"), Runtime()).by_length.values()
    assert prompt["input_ids"].tolist() == [text[:8].tolist() for text in texts(2)]
    assert (prompt[PAST].shape[0], step[PAST].shape[0], step["attention_mask"].shape) == (2, 2, (2, 9))
    assert np.abs(step[PAST]).max() > 0
    Session(model, Runtime()).run(step, ["logits"])


def test_the_output_of_an_encoder_stays_that_of_the_data() -> None:
    model = decoder(past=True)
    given = {"input_ids": np.array([[3]]), "encoder_attention_mask": np.array([[1, 1, 0, 1]])}
    kinds = ("decoder", "encoder")
    caches = {f"past_key_values.0.{kind}.{role}": np.full((1, 4, WIDTH), 0.5, np.float32)
              for kind in kinds for role in ("key", "value")}  # fmt: skip
    batch = {**given, **caches}
    prompt, step = length_batches(model, [batch], batch, lengths_of("5,1"), Runtime()).by_length.values()
    for feeds in (prompt, step):
        assert feeds["encoder_attention_mask"].tolist() == [[1, 1, 0, 1]]
        assert (feeds["past_key_values.0.encoder.key"] == 0.5).all()
    assert prompt["past_key_values.0.decoder.key"].shape == (1, 0, WIDTH)
    assert step["past_key_values.0.decoder.key"].shape == (1, 5, WIDTH)


def switched() -> ir.Model:
    """Return a cache of embeddings with a switch that says whether it holds something, and with types of tokens."""
    net = Net(3)
    x = net.node("Add", net.node("Gather", net.weight(ROWS, 4), "input_ids"), net.node(
        "Unsqueeze", net.node("Cast", "token_type_ids", to=F), net.ints(2)))  # fmt: skip
    x = net.node("Add", x, net.node("Cast", "use_cache_branch", to=F))
    net.node("Concat", PAST, x, axis=1, out="present.0.key")
    net.node("MatMul", "present.0.key", net.weight(4, ROWS), out="logits")
    sizes = [[1, "past_length", 4], [1, "total_length", 4]]
    inputs = [("input_ids", I64, [1, "length"]), ("token_type_ids", I64, [1, "length"]), (PAST, F, sizes[0])]
    return net.model([*inputs, ("use_cache_branch", 9, [1])],
                     [("logits", F, [1, "total_length", ROWS]), ("present.0.key", F, sizes[1])])  # fmt: skip


def test_a_switch_says_whether_the_cache_holds_something_and_other_inputs_have_the_length() -> None:
    batch = {"input_ids": np.array([[4, 5]]), "token_type_ids": np.array([[1, 0]])}
    prompt, step = length_batches(switched(), [batch], batch, lengths_of("3,2"), Runtime()).by_length.values()
    assert (prompt["use_cache_branch"].tolist(), step["use_cache_branch"].tolist()) == ([False], [True])
    assert (prompt["token_type_ids"].tolist(), step["token_type_ids"].tolist()) == ([[1, 0, 1]], [[1, 0]])


def test_a_hot_search_repeats_one_batch_of_each_length() -> None:
    found = at(causal(), drawn()[:1], "8:0.5,1:0.5")
    assert len({(feeds["input_ids"].tobytes(), feeds[PAST].tobytes()) for feeds in found}) == 2


def fixed() -> ir.Model:
    """Return the decoder for one token at a time."""
    model = causal()
    model.graph.inputs[0].shape = ir.Shape(["batch_size", 1])
    return model


def embedded() -> ir.Model:
    """Return the decoder whose tokens have no name by which they are known."""
    model = causal()
    model.graph.inputs[0].name = "words"
    return model


@pytest.mark.parametrize(
    ("model", "lengths", "why"),
    [
        (causal(), "1", "no length is that of one"),
        (fixed(), "8,1", "exactly 1 at a time"),
        (embedded(), "8,1", "no input is that of the tokens"),
    ],
)
def test_lengths_that_make_no_sense_are_refused(model: ir.Model, lengths: str, why: str) -> None:
    with pytest.raises(UsageError, match=rf"ONX112.*{why}"):
        at(model, drawn(), lengths)


@pytest.mark.parametrize("lengths", ["65", "65:0.3,1:0.7"])
def test_a_prompt_that_is_too_long_is_said_so(lengths: str) -> None:
    with pytest.raises(NativeError, match=r"ONX401.*cannot read a prompt of 65 tokens.*shorter"):
        at(causal(), drawn(), lengths)


def test_texts_without_a_token_are_refused() -> None:
    nothing = {**whole(texts(1)[0]), "attention_mask": np.zeros((1, 12), np.int64)}
    with pytest.raises(DataError, match=r"ONX205.*no sample has a token"):
        at(causal(), [nothing], "8,1")


def test_a_search_of_a_decoder_times_a_prompt_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxopt.search.parts import split_parts
    from onnxopt.search.settings import Settings
    from onnxopt.search.timed_batches import timed_batches

    samples = onnxopt.open_samples({name: np.concatenate([one[name] for one in drawn(40)]) for name in drawn()[0]},
                                   signature_of(causal()))  # fmt: skip
    parts = split_parts(samples, None, 0)
    found = timed_batches(parts.search, causal(), Settings(sequence="8:0.3,1:0.7", batch_size=2))
    assert [(feeds["input_ids"].shape, feeds[PAST].shape, share) for feeds, share in found.by_length] == [
        ((2, 8), (2, 0, 16), pytest.approx(0.3)), ((2, 1), (2, 8, 16), 0.7)]  # fmt: skip
    assert found.typical is found.by_length[0][0]


def test_a_benchmark_says_what_it_timed() -> None:
    found = onnxopt.benchmark([causal()], sequence="8:0.3,1:0.7", seconds=0.05)
    said = "A prompt with an empty cache has the length 8 (30% of the runs), steps behind it 1 (70% of the runs)."
    assert said in found.document.data["notes"]
    assert found.latency[1]["model"].inputs == 30
    (only,) = (note for note in onnxopt.benchmark([causal()], sequence="8", seconds=0.05).document.data["notes"]
               if "prompt" in note)  # fmt: skip
    assert only == "A prompt with an empty cache has the length 8 (100% of the runs)."
