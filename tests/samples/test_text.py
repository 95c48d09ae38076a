"""Sentences as tokens."""

import json
from pathlib import Path

import pytest
from sample_signatures import TEXT, one, signature, with_classes

from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import TensorSpec
from onnxopt.samples import ReadOptions, open_samples

WORDS = ["[PAD]", "[UNK]", "[CLS]", "good", "bad", "film", "'"]


@pytest.fixture
def options(tmp_path: Path) -> ReadOptions:
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({"vocab": WORDS, "regex": "[a-z]+|[^\\sa-z]", "lower": True, "max_len": 6}))
    return ReadOptions(vocab=path)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "d.tsv"
    path.write_text("A GOOD film\t1\nbad '\"\t0\n bad bad bad bad bad bad bad bad\t0\n")
    return path


def test_sentence_tab_label_without_header(table: Path, options: ReadOptions) -> None:
    samples = open_samples(table, TEXT, options=options)
    assert samples.labels.tolist() == [1, 0, 0]
    ids = [f["input_ids"].tolist() for f in samples]
    assert ids == [[[2, 1, 3, 5], [2, 4, 6, 1]], [[2, 4, 4, 4, 4, 4]]]
    assert all((f["attention_mask"] == 1).all() for f in samples)


@pytest.mark.parametrize("column", ["text", "sentence", "review"])
def test_columns_of_a_csv(tmp_path: Path, options: ReadOptions, column: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text(f'id,{column},label\n7,"good, film",yes\n8,bad film,no\n')
    chosen = ReadOptions(vocab=options.vocab, text_column=column if column == "review" else None)
    samples = open_samples(path, with_classes(TEXT, 2), options=chosen)
    assert samples.labels.tolist() == [1, 0]
    assert [f["input_ids"].tolist() for f in samples] == [[[2, 3, 1, 5]], [[2, 4, 5]]]


def test_fixed_length_is_filled_and_every_input_is_fed(table: Path, options: ReadOptions) -> None:
    names = ("input_ids", "input_mask", "token_type_ids", "position_ids")
    model = signature(*(TensorSpec(name, "int32", (1, 5)) for name in names))
    first, _, last = open_samples(table, model, options=options)
    assert {k: v.tolist() for k, v in first.items()} == {
        "input_ids": [[2, 1, 3, 5, 0]],
        "input_mask": [[1, 1, 1, 1, 0]],
        "token_type_ids": [[0] * 5],
        "position_ids": [[0, 1, 2, 3, 4]],
    }
    assert last["input_ids"].tolist() == [[2, 4, 4, 4, 4]]


def test_the_only_input_takes_the_ids(table: Path, options: ReadOptions) -> None:
    (first, *_) = open_samples(table, one("batch", "seq", dtype="int64", name="tokens"), options=options)
    assert first["tokens"].tolist() == [[2, 1, 3, 5], [2, 4, 6, 1]]


def test_a_text_fills_no_cache_and_the_error_names_the_command_that_does(tmp_path: Path, options: ReadOptions) -> None:
    (tmp_path / "texts.csv").write_text("text\na good film\n")
    model = signature(*TEXT.inputs, TensorSpec("past_key_values.0.key", "float32", ("batch", 8, "past", 4)))
    with pytest.raises(DataError, match=r"ONX202.*past_key_values.0.key.*onnxopt data .*texts\.csv --for MODEL"):
        open_samples(tmp_path / "texts.csv", model, options=options)


def test_text_needs_a_vocabulary(table: Path) -> None:
    with pytest.raises(UsageError, match=r"ONX113: text needs a vocabulary.*--vocab"):
        open_samples(table, TEXT)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"vocab": 3}', '{"vocab": ["a"], "regex": "["}', '{"vocab": [], "max_len": "x"}', None]
)
def test_damaged_vocabulary(table: Path, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "v.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=r"ONX201: not a readable vocabulary.*v\.json"):
        open_samples(table, TEXT, options=ReadOptions(vocab=path))


def test_lines_of_a_text_file_are_sentences(tmp_path: Path, table: Path, options: ReadOptions) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("\ufeffgood film\n\n  \nbad, bad film\r\n", encoding="utf-8")
    (tmp_path / "same.tsv").write_text("text\ngood film\nbad, bad film\n")
    read, same = (open_samples(path, TEXT, options=options) for path in (lines, tmp_path / "same.tsv"))
    assert len(read) == 2
    assert read.labels is None
    for mine, other in zip(read, same, strict=True):
        assert {name: array.tolist() for name, array in mine.items()} == {n: a.tolist() for n, a in other.items()}


def test_a_text_file_is_refused_where_there_is_no_text(tmp_path: Path, options: ReadOptions) -> None:
    empty, bytes_ = tmp_path / "empty.txt", tmp_path / "bytes.txt"
    empty.write_text("\n \n")
    bytes_.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(DataError, match="ONX205"):
        open_samples(empty, TEXT, options=options)
    with pytest.raises(DataError, match="ONX201"):
        open_samples(bytes_, TEXT, options=options)


def test_a_text_file_is_no_data_for_numbers(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("1 2\n3 4\n")
    numbers = signature(TensorSpec("x", "float32", (None, 2)))
    with pytest.raises(DataError, match="ONX201: the file is in no known format"):
        open_samples(lines, numbers)


def test_a_model_that_takes_text_reads_lines(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("good film\nbad film\n")
    texts = signature(TensorSpec("x", "str", (None, 1)))
    assert [batch["x"].ravel().tolist() for batch in open_samples(lines, texts)] == [["good film", "bad film"]]
