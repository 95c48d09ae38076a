"""The exported encoder-decoder answers as torch does, is one model to a search, and learns from its encoder."""

import json
from argparse import Namespace
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from onnxopt.measure.generation.chain import TextStart
from onnxopt.measure.runtime.session import Runtime
from onnxopt.samples.tokenizer import Vocabulary, open_vocab
from onnxopt.tasks.parts.config import end_tokens, first_token
from onnxopt.tasks.parts.roles import parts_of

PAIR = ("decoder_model", "decoder_with_past_model")

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def bench(bench_module):
    return bench_module("trained_seq2seq")


@pytest.fixture
def table(bench_module):
    return bench_module("seq2seq_table")


@pytest.fixture
def made(bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the folder of an untrained model."""
    texts = {"sst2_train5k.tsv": ["a film to see", "so dull"] * 250, "sst2_test.tsv": ["see a dull film", "to a film"]}
    monkeypatch.setattr(bench, "sentences_of", texts.__getitem__)
    monkeypatch.setattr(bench, "trained", lambda _, vocab, layers, width, __: bench.Model(layers, width, len(vocab)))
    bench.write(tmp_path, layers=2, width=24, epochs=1)
    return tmp_path


def test_vowels_are_hidden_and_texts_are_cut_between_words(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.hidden_vowels("a good movie") == "_ g__d m_v__"
    monkeypatch.setattr(bench, "LONGEST", 9)
    assert bench.pieces(["one", "two", "three", "unbelievable", "four"]) == ["one two", "three", "four"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_files_answer_as_torch_does_through_both_caches(bench: ModuleType, made: Path) -> None:
    torch.manual_seed(0)
    model = bench.Model(2, 24, 30).eval()
    bench.export(model, made / "other" / "onnx")
    parts = parts_of(made / "other", sorted((made / "other" / "onnx").glob("*.onnx")))
    assert [path.stem for path in parts.decoders] == ["decoder_model", "decoder_with_past_model"]
    given, answer = np.arange(3, 12)[None], np.array([0, 5, 9, 4, 17])
    mask = np.array([[1] * 7 + [0] * 2])
    walk, _ = parts.chain.load(Runtime())(TextStart({"input_ids": given, "attention_mask": mask}, answer[:1]))
    read = np.concatenate([walk.feed(answer[i : i + 1]) for i in range(len(answer))])
    whole = model(*map(torch.from_numpy, (given, mask, answer[None])))[0].detach().numpy()
    np.testing.assert_allclose(read, whole, atol=1e-4)
    # Padding is not attended to, the rest is.
    for place, same in ((8, True), (2, False)):
        other = given.copy()
        other[0, place] = 20
        again = model(*map(torch.from_numpy, (other, mask, answer[None])))[0].detach().numpy()
        assert np.allclose(again, whole, atol=1e-6) is same


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_folder_says_how_texts_begin_and_end(made: Path) -> None:
    folder = made / "model"
    assert (first_token(folder), end_tokens(folder)) == (0, {2})
    words = open_vocab(folder / "tokenizer.json")
    assert isinstance(words, Vocabulary)
    row = json.loads((made / "test.jsonl").read_text().splitlines()[0])
    letters = list(words.ids)
    assert [letters[i] for i in words.encode(row["text"])] == list("s__ _ d_ll f_lm")
    assert len(words.encode(row["answer"])) == len(words.encode(row["text"]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_merged_decoder_reads_as_the_two_do(table: ModuleType, made: Path) -> None:
    pair, one = made / "model", made / "merged"
    assert {path.name for path in table.files_of(one)} == {"encoder_model.onnx", "decoder_model_merged.onnx"}
    assert {path.name for path in one.iterdir()} == {path.name for path in pair.iterdir()}
    # Each weight is there once, so the file is about as large as the larger of the two.
    sizes = {path.stem: path.stat().st_size for path in (*table.files_of(pair), *table.files_of(one))}
    assert sizes["decoder_model_merged"] < 1.6 * sizes["decoder_model"] < 0.9 * sum(sizes[name] for name in PAIR)
    texts, letters = table.texts_of(made, None)
    rows = table.answers({"pair": pair, "one": one}, texts, letters)
    assert rows["one"]["perplexity"]["value"] == pytest.approx(rows["pair"]["perplexity"]["value"], rel=1e-6)
    int8 = made / "int8"
    table.onnxopt.quantize_folder(one, out=int8)
    (merged,) = (onnx.load(path) for path in table.files_of(int8) if "decoder" in path.name)
    (around,) = (node for node in merged.graph.node if node.op_type == "If")
    kinds = [Counter(node.op_type for node in body.g.node) for body in around.attribute]
    # Products of weights in two layers and the last one; later tokens find the keys and values of the encoder.
    assert sorted(one["MatMulInteger"] for one in kinds) == [2 * 8 + 1, 2 * 10 + 1]


def test_training_lowers_the_loss(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    vocab = ["[PAD]", "[UNK]", "</s>", " ", "_", *"abcd"]
    bench.trained(["bad cab", "dab"] * 300, vocab, 1, 48, 10)
    losses = [float(line.split()[2]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 10
    assert losses[-1] < losses[0] - 0.5


def test_words_with_hidden_letters_count(table: ModuleType) -> None:
    assert table.right_words("the fly is great .", "the fly as great .") == (2, 3)
    assert table.right_words("the fly is great", "the fly") == (1, 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_folder_is_scored_on_the_right_answers(table: ModuleType, made: Path) -> None:
    texts, letters = table.texts_of(made, None)
    assert [text.answer for text in texts] == ["see a dull film", "to a film"]
    assert "".join(letters[i] for i in texts[1].tokens) == "[PAD]to a film</s>"
    rows = table.answers({"a": made / "model", "b": made / "model"}, texts, letters)
    assert (rows["a"]["words"], rows["a"]["word_gain"]) == (7, None)
    begin, nats = table.chain_of(made / "model").load(Runtime()), list[float]()
    for text in texts:
        walk, _ = begin(text.start)
        for token, following in pairwise(text.tokens):
            scores = walk.feed([token])[0].astype(np.float64)
            nats.append(np.log(np.exp(scores).sum()) - scores[following])
    for row in rows.values():
        assert row["perplexity"]["value"] == pytest.approx(np.exp(np.mean(nats)), rel=1e-5)
    assert rows["b"]["perplexity"]["tokens"] == len(nats)


def test_a_search_that_was_made_is_read(table: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_, out: Path, **__) -> None:
        (out / "model").mkdir(parents=True)
        (out / "parts.json").write_text('{"folder": "a", "budget": 1}')

    monkeypatch.setattr(table.onnxopt, "optimize_parts", search)
    given = Namespace(max_drop="1pp", latency_seconds=1.0, search_limit=None, no_search=False)
    assert table.chosen(tmp_path, tmp_path, tmp_path / "other", Namespace(no_search=True)) == (None, {})
    found = table.chosen(tmp_path, tmp_path / "texts.jsonl", tmp_path / "run", given)
    assert found == (tmp_path / "run" / "model", {"budget": 1})
    monkeypatch.setattr(table.onnxopt, "optimize_parts", None)
    (tmp_path / "run" / "model").rmdir()
    assert table.chosen(tmp_path, tmp_path / "texts.jsonl", tmp_path / "run", given) == (None, {"budget": 1})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_answer_ends_with_its_end(table: ModuleType, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, letters = table.texts_of(made, None)
    monkeypatch.setattr(table, "greedy", lambda walk, start, count, end: np.array([0, *texts[0].tokens[1:-2], *end]))
    assert table.written_by(table.chain_of(made / "model"), texts[:1], letters) == ["see a dull fil"]


def test_without_the_pack_one_sentence_says_so(bench_module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts = bench_module("training_text")
    monkeypatch.setattr(texts, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"there is no .*ONNXOPT_PACK"):
        texts.sentences_of("sst2_test.tsv")
