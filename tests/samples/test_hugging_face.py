"""A Hugging Face tokenizer.json gives the tokens that its own library gives, or one line."""

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from sample_signatures import signature
from tokenizer_files import WORDS, bpe_with_bytes, byte_level_bpe, unigram, word_piece

from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import TensorSpec
from onnxopt.samples import ReadOptions, open_samples

NAMES = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
ODD = (
    "",
    " ",
    "naïve café",
    "ﬁne ½ ＡＢ",
    "电影好看",
    "영화",
    "😀👩‍👧",
    "e\u0301",
    "\u200b\ufeff\x00",
    "a" * 300,
    "don't",
)
SPECIAL = ("<|endoftext|>", "[MASK]", "[SEP]", "<pad>", "</s>", "<sep>", "<0x41>")
KINDS = (word_piece, byte_level_bpe, unigram, bpe_with_bytes)


def texts() -> list[str]:
    """Return sentences, odd letters, and special tokens inside sentences."""
    draw = random.Random(0)
    made = [*ODD]
    for _ in range(150):
        words = draw.choices([*WORDS, *ODD, "filmly", "THE", "."], k=draw.randrange(1, 12))
        words.insert(draw.randrange(len(words)), draw.choice(SPECIAL))
        made.append(draw.choice(["", " ", "  "]).join(words))
    return made + ["".join(chr(draw.randrange(32, 0xD800)) for _ in range(20)) for _ in range(50)]


def written(folder: Path, content: dict[str, Any], **settings: object) -> Path:
    """Write a tokenizer.json and, with settings, the file of settings beside; return its path."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content))
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def read(folder: Path, sentences: list[str], vocab: Path, length: int | None = None) -> list[dict[str, list[int]]]:
    """Return what a model gets for each sentence."""
    table = folder / "texts.jsonl"
    table.write_text("".join(json.dumps({"text": one}) + "\n" for one in sentences))
    model = signature(*(TensorSpec(name, "int64", ("batch", length or "seq")) for name in NAMES))
    samples = open_samples(table, model, options=ReadOptions(vocab=vocab))
    return [
        {name: array[row].tolist() for name, array in feeds.items()}
        for feeds in samples
        for row in range(len(feeds[NAMES[0]]))
    ]


@pytest.mark.parametrize("length", [None, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_the_library(tmp_path: Path, kind: Callable[[], dict[str, Any]], length: int | None) -> None:
    library = pytest.importorskip("tokenizers", reason="the library gives the right answers (extra `text`)")
    vocab = written(tmp_path, kind())
    reference = library.Tokenizer.from_file(str(vocab))
    padding = reference.padding or {"pad_id": 0}
    reference.no_padding()
    if length:
        cut = reference.truncation or {"direction": "right"}
        reference.enable_truncation(length, direction=cut["direction"])
        shared = ("pad_id", "pad_type_id", "direction")
        reference.enable_padding(length=length, **{name: padding[name] for name in shared if name in padding})
    sentences = texts()
    found = read(tmp_path, sentences, vocab, length)
    assert len(found) == len(sentences)
    for sentence, feeds in zip(sentences, found, strict=True):
        right = reference.encode(sentence)
        expected = (right.ids, right.attention_mask, right.type_ids)
        assert tuple(feeds[name] for name in NAMES[:3]) == expected, sentence


class FakeTokenizer:
    """Stands for `tokenizers.Tokenizer`: one id per letter, 99 of type 1 closes a sentence."""

    padding: dict[str, Any] | None = None
    truncation: dict[str, Any] | None = None

    @classmethod
    def from_file(cls, path: str) -> "FakeTokenizer":
        assert path.endswith("tokenizer.json")
        made = cls()
        content = json.loads(Path(path).read_text())
        made.padding, made.truncation = content.get("padding"), content.get("truncation")
        return made

    def no_padding(self) -> None:
        self.padding = None

    def enable_truncation(self, length: int, direction: str) -> None:
        assert length < 2**63, "as in native code"
        self.truncation = {"max_length": length, "direction": direction}

    def token_to_id(self, token: str) -> int | None:
        return {"<pad>": 7, "<end>": 8}.get(token)

    def encode(self, sentence: str) -> SimpleNamespace:
        ids = list(map(len, sentence.split()))
        if self.truncation:
            keep = self.truncation["max_length"] - 1
            ids = ids[:keep] if self.truncation["direction"] == "right" else ids[-keep:]
        return SimpleNamespace(ids=[*ids, 99], type_ids=[0] * len(ids) + [1])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("tokenizers")
    module.Tokenizer = FakeTokenizer
    monkeypatch.setitem(sys.modules, "tokenizers", module)
    return module


MODEL = {"model": {"type": "WordPiece"}}
RIGHT = {"pad_id": 50, "pad_type_id": 0, "direction": "right"}
LEFT = {"pad_id": 50, "pad_type_id": 3, "direction": "left"}


@pytest.mark.usefixtures("fake")
def test_cut_and_filled_to_the_length_of_the_model(tmp_path: Path) -> None:
    vocab = written(tmp_path, {**MODEL, "padding": RIGHT})
    (free,) = read(tmp_path, ["a good film"], vocab)
    assert free == {
        "input_ids": [1, 4, 4, 99],
        "attention_mask": [1] * 4,
        "token_type_ids": [0, 0, 0, 1],
        "position_ids": [0, 1, 2, 3],
    }
    (cut,) = read(tmp_path, ["a good film"], vocab, 3)
    assert cut["input_ids"] == [1, 4, 99]
    (filled,) = read(tmp_path, ["a good film"], vocab, 6)
    assert filled == {
        "input_ids": [1, 4, 4, 99, 50, 50],
        "attention_mask": [1, 1, 1, 1, 0, 0],
        "token_type_ids": [0, 0, 0, 1, 0, 0],
        "position_ids": [0, 1, 2, 3, 4, 5],
    }


@pytest.mark.usefixtures("fake")
def test_filled_from_the_left(tmp_path: Path) -> None:
    (filled,) = read(tmp_path, ["a good"], written(tmp_path, {**MODEL, "padding": LEFT}), 5)
    assert filled == {
        "input_ids": [50, 50, 1, 4, 99],
        "attention_mask": [0, 0, 1, 1, 1],
        "token_type_ids": [3, 3, 0, 0, 1],
        "position_ids": [0, 0, 0, 1, 2],
    }


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("padding", "settings", "ids"),
    [
        (None, {}, [1, 99, 7]),
        (None, {"pad_token": "<end>"}, [1, 99, 8]),
        (None, {"pad_token": None, "padding_side": "left"}, [7, 1, 99]),
        (RIGHT, {"pad_token": {"content": "<end>"}, "padding_side": "left"}, [8, 1, 99]),
        (LEFT, {"padding_side": "right"}, [1, 99, 50]),
        (RIGHT, {"pad_token": "<nowhere>"}, [1, 99, 50]),
    ],
)
def test_settings_beside_state_the_padding(
    tmp_path: Path, padding, settings: dict[str, object], ids: list[int]
) -> None:
    (filled,) = read(tmp_path, ["a"], written(tmp_path, {**MODEL, "padding": padding}, **settings), 3)
    assert filled["input_ids"] == ids


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("cut", "longest", "ids"),
    [
        (None, 3, [1, 2, 99]),
        (None, 1e30, [1, 2, 3, 4, 5, 99]),
        ({"max_length": 4, "direction": "left"}, 3, [3, 4, 5, 99]),
    ],
)
def test_the_longest_text(tmp_path: Path, cut: dict[str, Any] | None, longest: float, ids: list[int]) -> None:
    vocab = written(tmp_path, {**MODEL, "truncation": cut}, model_max_length=longest)
    (found,) = read(tmp_path, ["a aa aaa aaaa aaaaa"], vocab)
    assert found["input_ids"] == ids
    (fixed,) = read(tmp_path, ["a aa aaa aaaa aaaaa"], vocab, 2)
    assert fixed["input_ids"] == [5 if cut else 1, 99]


@pytest.mark.usefixtures("fake")
def test_a_tokenizer_that_draws_random_numbers_is_refused(tmp_path: Path) -> None:
    vocab = written(tmp_path, {"model": {"type": "BPE", "dropout": 0.1}})
    with pytest.raises(DataError, match=r"ONX201: a tokenizer that draws random numbers .*dropout of 0\.1"):
        read(tmp_path, ["a"], vocab)


@pytest.mark.usefixtures("fake")
def test_half_of_a_surrogate_pair_is_a_fault_of_the_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ONX201: a text that cannot be tokenized .*surrogate"):
        read(tmp_path, ["a \ud800 film"], written(tmp_path, MODEL))


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("settings", ["", "[1]", "7"])
def test_damaged_settings(tmp_path: Path, settings: str) -> None:
    vocab = written(tmp_path, MODEL)
    (tmp_path / "tokenizer_config.json").write_text(settings)
    with pytest.raises(DataError, match=r"ONX201: not a readable vocabulary.*tokenizer_config\.json"):
        read(tmp_path, ["a"], vocab)


class Panic(BaseException):
    """What `tokenizers` raises where its native code panics."""


@pytest.mark.parametrize("where", ["from_file", "encode"])
@pytest.mark.parametrize("error", [Panic("no entry found for key"), Exception("`unk_id` is missing")])
def test_a_tokenizer_that_panics_is_one_line(
    tmp_path: Path, fake: ModuleType, capfd: pytest.CaptureFixture[str], where: str, error: BaseException
) -> None:
    def panic(*_: object) -> None:
        os.write(2, b"thread panicked at mod.rs:143")
        raise error

    fake.Tokenizer = type("Panicking", (FakeTokenizer,), {where: panic})
    with pytest.raises(DataError, match=rf"ONX201.*tokenizer\.json.*{error.args[0]}"):
        read(tmp_path, ["a"], written(tmp_path, MODEL))
    assert capfd.readouterr().err == ""


def test_missing_tokenizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UsageError, match=r'ONX108.*tokenizers.*pip install "onnxopt\[text\]"'):
        read(tmp_path, ["a"], written(tmp_path, MODEL))
