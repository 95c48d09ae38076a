"""Tables: features, columns named as inputs, labels, damage."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sample_signatures import PAIR, TABULAR, one, signature, with_classes

from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import TensorSpec, signature_of
from onnxopt.samples import ReadOptions, open_samples
from tests.tasks.parts.seq2seq import decoder

ROWS = [{"p": 1, "q": 0.5, "r": -2, "s": 3e2, "label": 1}, {"p": 2, "q": 1.5, "r": 0, "s": 4, "label": 0}]
FEATURES = [[1, 0.5, -2, 300], [2, 1.5, 0, 4]]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        mark = "," if path.suffix == ".csv" else "\t"
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        path.write_text("".join(mark.join(map(str, line)) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_features_and_labels(tmp_path: Path, kind: str) -> None:
    samples = open_samples(write(tmp_path / f"d.{kind}", ROWS), TABULAR)
    (batch,) = samples.batches()
    np.testing.assert_array_equal(batch.feeds["x"], np.float32(FEATURES))
    np.testing.assert_array_equal(batch.labels, [1, 0])


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_chosen_label_column_of_names(tmp_path: Path, kind: str) -> None:
    rows = [
        {**{k: v for k, v in row.items() if k != "label"}, "kind": name} for row, name in zip(ROWS, "ba", strict=True)
    ]
    path = write(tmp_path / f"d.{kind}", rows)
    model = with_classes(TABULAR, 2)
    assert open_samples(path, model, options=ReadOptions(label_column="kind")).labels.tolist() == [1, 0]
    with pytest.raises(UsageError, match=r"ONX102.*'knd'.*Did you mean 'kind'"):
        open_samples(path, TABULAR, options=ReadOptions(label_column="knd"))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_columns_named_as_the_inputs(tmp_path: Path, kind: str) -> None:
    model = signature(
        TensorSpec("age", "float32", (None, 1)), TensorSpec("sex", "str", (None, 1)), TensorSpec("n", "int64", (None,))
    )
    rows = [{"n": 3, "sex": "f", "age": 40, "y": 1}, {"n": 4, "sex": "m", "age": 7.5, "y": 0}]
    (batch,) = open_samples(write(tmp_path / f"d.{kind}", rows), model).batches()
    assert batch.feeds["age"].tolist() == [[40], [7.5]]
    assert batch.feeds["sex"].tolist() == [["f"], ["m"]]
    assert batch.feeds["n"].tolist() == [3, 4]
    assert batch.labels.tolist() == [1, 0]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_nested_cells_of_different_lengths(tmp_path: Path, kind: str) -> None:
    model = one("batch", "seq", dtype="int64", name="ids")
    path = write(tmp_path / f"d.{kind}", [{"ids": [1, 2, 3], "y": 0}, {"ids": [4], "y": 1}])
    assert [f["ids"].tolist() for f in open_samples(path, model)] == [[[1, 2, 3]], [[4]]]


def test_json_numbers_take_the_type_of_the_model(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [{"x": [[0, 1], [1, 0]]}, {"x": [[0.5, 1], [1, 0]]}])
    (feeds,) = open_samples(path, one(None, 2, 2))
    assert feeds["x"].tolist() == [[[0, 1], [1, 0]], [[0.5, 1], [1, 0]]]


def test_no_header(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("1,0.5,-2,300\n2,1.5,0,4\n")
    (feeds,) = open_samples(path, TABULAR)
    np.testing.assert_array_equal(feeds["x"], np.float32(FEATURES))


def test_quoted_cells_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(b'\xef\xbb\xbf"x","y"\r\n"1","0"\r\n\r\n"2","1"\r\n')
    samples = open_samples(path, one(None, 1))
    assert samples.labels.tolist() == [0, 1]
    assert next(iter(samples))["x"].tolist() == [[1], [2]]


def test_a_column_of_text_for_a_model_of_text(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", [{"text": "good", "label": "pos"}, {"text": "bad", "label": "neg"}])
    samples = open_samples(path, with_classes(one(None, 1, dtype="str", name="words"), 1))
    assert next(iter(samples))["words"].tolist() == [["good"], ["bad"]]
    assert samples.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "ONX205"),
        ("a.csv", "p,q,r,s\n", "ONX205"),
        ("a.csv", "p,q,r,s\n1,2,3,4\n1,2,3\n", "ONX201.*row 3 has 3 cells"),
        ("a.csv", "p,p,r,s\n1,2,3,4\n", "ONX201.*same name"),
        ("a.csv", 'p,q,r,s\n"1,2,3,4\n', "ONX201"),
        ("a.csv", b"p,q,r,s\n\xff\xfe,2,3,4\n", "ONX201"),
        ("a.csv", "p,q,r,s\n1,2,3,x\n", "ONX204: column 's' holds no plain numbers"),
        ("a.csv", "p,q,r,s\n1,2,3,4\n1,2,3,x\n", "ONX204: column 's'.*sample 1 has 'x'"),
        ("a.csv", "p,q,r,s\n1,2,3,4\n1,,3,4\n", "ONX207.*sample 1"),
        ("a.csv", "p,q,r\n1,2,3\n", r"ONX203.*shape \(3,\)"),
        ("a.csv", "label\n1\n", "ONX202.*no features"),
        ("a.jsonl", "", "ONX205"),
        ("a.jsonl", '{"p": 1}\n{"p": \n', "ONX201.*line 2"),
        ("a.jsonl", "[1, 2]\n", "ONX201.*line 1 is not a JSON object"),
        ("a.jsonl", '{"p": 1}\n{"q": 1}\n', "ONX201.*line 2 has other keys"),
        ("a.jsonl", '{"x": [[1, 2], [3]]}\n', "ONX203.*differ in length"),
        ("a.jsonl", '{"x": {"a": 1}}\n', "ONX204"),
        ("a.jsonl", '{"p": [1], "q": 2, "r": 3, "s": 4}\n', "ONX204: column 'p'"),
        ("a.jsonl", '{"x": [1, NaN, 2, 3]}\n', "ONX207.*sample 0"),
        ("a.jsonl", '{"x": [1, 2, 3, 4], "y": [1, 2]}\n{"x": [1, 2, 3, 4], "y": [1]}\n', "ONX206"),
        ("a.jsonl", "[" * 100_000, "ONX201"),
        ("a.parquet", "PAR1 but not really", "ONX201"),
        ("a.parquet", "", "ONX201"),
    ],
)
def test_damaged_tables(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        list(open_samples(tmp_path / name, TABULAR))
    assert "expected: x: float32[?, 4]" in str(caught.value)


def test_an_input_without_column(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", [{"a": 1, "c": 2}])
    with pytest.raises(DataError, match="ONX202: no column for model input 'b'"):
        open_samples(path, PAIR)


def test_missing_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "d.parquet", ROWS)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r'ONX108.*pyarrow.*pip install "onnxopt\[tables\]"'):
        open_samples(path, TABULAR)


@pytest.mark.parametrize(("past", "name"), [(False, "encoder_hidden_states"), (True, "past_key_values.0.encoder.key")])
def test_values_of_an_encoder_come_from_its_folder(tmp_path: Path, past: bool, name: str) -> None:
    texts = write(tmp_path / "texts.jsonl", [{"text": "a b"}])
    with pytest.raises(DataError, match=rf"ONX202.*{name} comes from an encoder.*optimize FOLDER") as caught:
        open_samples(texts, signature_of(decoder(past=past)))
    # `onnxopt data` makes no output of an encoder.
    assert "onnxopt data" not in str(caught.value)


def test_values_of_an_encoder_come_from_arrays() -> None:
    given = signature_of(decoder(past=False))
    rng = np.random.default_rng(0)
    arrays = {
        "input_ids": rng.integers(0, 40, (6, 5)),
        "encoder_attention_mask": np.ones((6, 7), np.int64),
        "encoder_hidden_states": rng.normal(size=(6, 7, 32)).astype(np.float32),
    }
    assert len(open_samples(arrays, given)) == 6
