"""States are paired by name, type and shape, and made by running the model over consecutive samples."""

import json
from pathlib import Path

import numpy as np
import pytest

import onnxopt
from onnxopt import model_file
from onnxopt.errors import DataError, UsageError
from onnxopt.measure.generation.states import states_of
from onnxopt.model_file import Signature, TensorSpec, signature_of
from onnxopt.samples import ReadOptions, open_samples
from tests import builders
from tests.builders import I64, F, Net
from tests.samples.waves import write
from tests.tasks.streaming import decoder, recurrent, voice_detector


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def spec(name: str, *shape, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, shape)


def pairs(inputs, outputs) -> dict[str, str]:
    data = spec("audio", 1, 160)
    return {s.input.name: s.output.name for s in states_of(Signature((data, *inputs), tuple(outputs)))}


@pytest.mark.parametrize(
    ("own", "given"),
    [
        ("h", "hn"),
        ("h0", "hn"),
        ("h_0", "h_n"),
        ("state", "stateN"),
        ("past_key_values.0.key", "present.0.key"),
        ("past_key_1", "present_key_1"),
        ("hidden_in", "hidden_out"),
        ("cache", "new_cache"),
        ("in_cache0", "out_cache0"),
        ("conv_cache", "conv_cache_out"),
        ("prev_mem", "next_mem"),
        ("lstm_state_input", "lstm_state_output"),
    ],
)
def test_usual_names_are_paired(own, given):
    assert pairs([spec(own, 1, 4)], [spec("y", 1, 4), spec(given, 1, 4)]) == {own: given}


def test_every_state_gets_its_own_output():
    inputs = [spec(f"state_{i}", 1, 4) for i in range(3)]
    outputs = [spec(f"new_state_{i}", 1, 4) for i in (2, 0, 1)]
    assert pairs(inputs, outputs) == {f"state_{i}": f"new_state_{i}" for i in range(3)}
    assert pairs([spec("h", 1, 4), spec("c", 1, 4)], [spec("cn", 1, 4), spec("hn", 1, 4)]) == {"h": "hn", "c": "cn"}


@pytest.mark.parametrize(
    ("own", "given"),
    [
        (spec("state", 1, 4), spec("stateN", 1, 8)),
        (spec("state", 1, 4), spec("stateN", 1, 4, 1)),
        (spec("state", 1, 4), spec("stateN", 1, 4, dtype="float16")),
        (spec("image_in", 1, 4), spec("image_out", 1, 4)),
        (spec("mask", 1, 4), spec("scores", 1, 4)),
        (spec("state", 1, 4), spec("cache", 1, 4)),
    ],
)
def test_what_differs_in_name_type_or_shape_is_no_state(own, given):
    assert pairs([own], [given]) == {}


def test_a_model_of_states_alone_has_none():
    assert states_of(Signature((spec("state", 1),), (spec("stateN", 1),))) == ()


def test_a_voice_detector_is_stepped_through_each_file():
    pytest.importorskip("soundfile", reason="libsndfile decodes sound")
    model_file.save(voice_detector(), "vad.onnx")
    for name, level in (("a", 0.2), ("b", 0.8)):
        write(Path(f"sounds/{name}.wav"), np.full(500, level))
    made = onnxopt.data("sounds", "vad.onnx", read=ReadOptions(sample_rate=16000))
    with np.load("samples.npz") as arrays:
        assert arrays["input"].shape == (6, 1, 160)
        assert list(arrays["sr"]) == [16000] * 6
        states = arrays["state"]
    loud = [0.2, 0.2, 0.2, 0.8, 0.8, 0.8]
    expected = [0.0, loud[0], loud[0] * 1.5, 0.0, loud[3], loud[3] * 1.5]
    assert states.shape == (6, 2, 1, 4)
    assert states[:, 1, 0, 2] == pytest.approx(expected, abs=1e-4)
    assert any("state takes stateN of the step before; zeros at the beginning of each file" in s for s in made.assumed)
    assert len(open_samples("samples.npz", signature_of(model_file.load("vad.onnx")))) == 6


def test_rows_are_steps_of_one_sequence():
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    made = onnxopt.data({"x": x, "y": np.arange(4)}, recurrent(), out="s.npz", limit=3)
    with np.load("s.npz") as arrays:
        assert arrays["x"] == pytest.approx(x[:3])
        assert arrays["h"] == pytest.approx(np.cumsum(np.vstack([np.zeros(3), x[:2]]), axis=0))
        assert list(arrays["y"]) == [0, 1, 2]
    assert made.count == 3
    assert (made.first[1].least, made.first[1].most) == (0, 0)


def test_states_that_the_data_has_are_kept():
    x = np.ones((4, 3), np.float32)
    np.savez("whole.npz", x=x, h=7 * x)
    made = onnxopt.data("whole.npz", recurrent(), out="s.npz")
    with np.load("s.npz") as arrays:
        assert (arrays["h"] == 7).all()
    assert not any("States" in sentence for sentence in made.assumed)


def test_random_steps_have_real_states():
    onnxopt.data("random:5", recurrent(), out="s.npz")
    with np.load("s.npz") as arrays:
        assert arrays["h"][1:] == pytest.approx(np.cumsum(arrays["x"], axis=0)[:-1], rel=1e-5)


def test_pairs_can_be_named():
    model = recurrent("alpha", "omega")
    with pytest.raises(DataError, match="ONX202"):
        onnxopt.data({"x": np.ones((4, 3), np.float32)}, model)
    onnxopt.data({"x": np.ones((4, 3), np.float32)}, model, state=["alpha=omega"])
    with np.load("samples.npz") as arrays:
        assert list(arrays["alpha"][:, 0]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("pair", "code"),
    [("alpha", "ONX101"), ("alpha=nothing", "ONX102"), ("nothing=omega", "ONX102"), ("sr=stateN", "ONX101")],
)
def test_pairs_that_make_no_sense_are_refused(pair, code):
    model = voice_detector() if "sr" in pair else recurrent("alpha", "omega")
    with pytest.raises(UsageError, match=code):
        onnxopt.data("random:2", model, state=[pair])


def test_a_decoder_reads_a_text_token_by_token():
    words = ["[PAD]", "[UNK]", "one", "two", "three"]
    Path("vocab.json").write_text(json.dumps({"vocab": words}))
    Path("texts.csv").write_text("text,label\none two three,1\ntwo,0\n")
    made = onnxopt.data("texts.csv", decoder(), read=ReadOptions(vocab="vocab.json"))
    assert made.path == Path("samples")  # the cache grows, so the steps differ in shape
    steps = []
    for file in sorted(Path("samples").iterdir()):
        with np.load(file) as arrays:
            steps.append({name: arrays[name] for name in arrays})
    assert [step["input_ids"].tolist() for step in steps] == [[2], [3], [4], [3]]
    assert [step["past_key_values.0.key"].shape[0] for step in steps] == [0, 1, 2, 0]
    assert [step["attention_mask"].shape[0] for step in steps] == [1, 2, 3, 1]
    assert [int(step["y"]) for step in steps] == [1, 1, 1, 0]
    assert len(open_samples("samples", signature_of(decoder()))) == 4


def long_text(words: int) -> list[dict[str, np.ndarray]]:
    Path("vocab.json").write_text(json.dumps({"vocab": ["[PAD]", "[UNK]", *(f"w{i}" for i in range(words))]}))
    Path("texts.csv").write_text(f"text\n{' '.join(f'w{i}' for i in range(words))}\n")
    onnxopt.data("texts.csv", decoder(), out="long", read=ReadOptions(vocab="vocab.json"))
    return [dict(np.load(file)) for file in sorted(Path("long").iterdir())]


def test_a_decoder_reads_half_of_a_text_at_once_and_some_tokens_of_the_rest_with_the_cache_of_all_before():
    steps = long_text(14)
    assert [step["input_ids"].tolist() for step in steps] == [list(range(2, 9)), [9], [11], [13]]
    assert [step["past_key_values.0.key"].shape[0] for step in steps] == [0, 7, 9, 11]
    assert [step["attention_mask"].shape[0] for step in steps] == [7, 8, 10, 12]
    ids = np.arange(2, 14)[None]
    empty = steps[0]["past_key_values.0.key"][None]
    whole = {"input_ids": ids, "attention_mask": np.ones_like(ids), "past_key_values.0.key": empty}
    key = builders.run(decoder(), whole)[1]
    assert steps[3]["past_key_values.0.key"] == pytest.approx(key[0, :11], rel=1e-5)


def test_a_window_reads_every_token():
    long_text(14)
    made = onnxopt.data("texts.csv", decoder(), out="all", read=ReadOptions(vocab="vocab.json", window=1))
    assert made.count == 14
    assert "Text: 1 token per step; --window changes that." in made.assumed


def test_a_fixed_number_of_sequences_is_refused():
    net = Net(0)
    net.node("Add", "h", "x", out="hn")
    model = net.model([("x", F, [4, 3]), ("h", F, [4, 3])], [("hn", F, [4, 3])])
    with pytest.raises(DataError, match="ONX203: states of several sequences"):
        onnxopt.data("random:4", model)


def test_a_decoder_of_fixed_windows_leaves_out_what_fills_none():
    Path("vocab.json").write_text(json.dumps({"vocab": ["[PAD]", "[UNK]", "a", "b", "c"]}))
    Path("texts.csv").write_text("text,label\na b c a b,1\nc,0\n")
    net = Net(0)
    rows = net.node("ReduceSum", net.node("Gather", net.weight(5, 2), "input_ids"), net.ints(1), keepdims=0)
    net.node("Add", "cache", rows, out="new_cache")
    cache = ("cache", F, ["n", 2])
    model = net.model([("input_ids", I64, ["n", 2]), cache], [("new_cache", F, ["n", 2])])
    onnxopt.data("texts.csv", model, read=ReadOptions(vocab="vocab.json"))
    with np.load("samples.npz") as arrays:
        assert arrays["input_ids"].tolist() == [[2, 3], [4, 2]]
        assert list(arrays["y"]) == [1, 1]
        assert not arrays["cache"][0].any()
        assert arrays["cache"][1].any()
