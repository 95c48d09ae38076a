"""Folders of encoder and decoders take turns on the same texts."""

import json
from pathlib import Path

import numpy as np
import pytest

import onnxopt
from onnxopt.errors import ModelError, UsageError
from onnxopt.measure.generation.chain import TextStart
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import save
from onnxopt.tasks.parts.roles import parts_of
from onnxopt.tasks.variants.folder import quantize_folder
from tests.cli.conftest import cli
from tests.measure.generation.decoders import causal
from tests.tasks.parts.seq2seq import ROWS, folder_of, sentences

__all__ = ["cli"]
SHORT = {"seconds": 0.01, "new_tokens": 5}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    first = folder_of(tmp_path / "float")
    quantize_folder(first, out=tmp_path / "int8")
    return [first, tmp_path / "int8"]


def test_folders_are_beside_the_first_on_its_answers(folders: list[Path]) -> None:
    found = onnxopt.generation(folders, sentences(12), **SHORT)
    names = [str(folder) for folder in folders]
    assert list(found.speed) == list(found.perplexity) == names
    assert found.private_bytes == {}
    first, other = (found.perplexity[name] for name in names)
    assert first.ratio is None
    assert other.divergence is not None
    assert 0 < other.divergence.low < other.divergence.value < 0.01
    lines = "\n".join(found.document.blocks[1].lines)
    assert "Encoders read the texts given, decoders generate 5 tokens" in lines
    assert "Perplexity: of the first folder's answers" in lines


def test_the_perplexity_is_that_of_the_answers_through_the_cache(folders: list[Path]) -> None:
    found = onnxopt.generation(folders[0], sentences(3), **SHORT)
    parts = parts_of(folders[0], sorted((folders[0] / "onnx").glob("*.onnx")))
    begin, losses = parts.chain.load(Runtime()), list[float]()
    for i in range(3):
        walk, token = begin(TextStart({name: one[i : i + 1] for name, one in sentences(3).items()}, np.array([3])))
        for _ in range(SHORT["new_tokens"]):
            scores = walk.feed(token)[-1].astype(np.float64)
            # Its best guess is the next token.
            losses.append(float(np.log(np.exp(scores - scores.max()).sum())))
            token = scores.argmax(keepdims=True)
            if token[0] == ROWS - 1:
                break
    (perplexity,) = found.perplexity.values()
    assert perplexity.value == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)
    assert (perplexity.texts, perplexity.tokens) == (3, len(losses))


def test_without_data_inputs_are_made_up(folders: list[Path]) -> None:
    found = onnxopt.generation(folders, **SHORT)
    assert len(found.speed) == 2
    assert found.perplexity == {}
    assert "Encoders read made-up inputs" in "\n".join(found.document.blocks[1].lines)


def test_texts_are_read_with_the_tokenizer_of_the_folder(folders: list[Path], tmp_path: Path, cli) -> None:
    rows = [json.dumps({"text": f"w{i} w{i + 1} w{i + 2}"}) for i in range(9)]
    (tmp_path / "texts.jsonl").write_text("\n".join(rows))
    ended = cli("generation", *folders, "--data", tmp_path / "texts.jsonl", "--seconds", "0.01", "--new-tokens", "3",
                 "--format", "json")  # fmt: skip
    assert [one["perplexity"]["texts"] for one in json.loads(ended.out)["models"]] == [9, 9]


def test_what_cannot_be_compared_is_refused(folders: list[Path], tmp_path: Path) -> None:
    save(causal(), tmp_path / "decoder.onnx")
    with pytest.raises(UsageError, match="ONX112: folders and models are no rows of one table"):
        onnxopt.generation([folders[0], tmp_path / "decoder.onnx"], **SHORT)
    (tmp_path / "alone").mkdir()
    save(causal(), tmp_path / "alone" / "decoder.onnx")
    with pytest.raises(UsageError, match=r"ONX112: the folder has no encoder.*Name its decoder: .*decoder\.onnx"):
        onnxopt.generation(tmp_path / "alone", **SHORT)


def test_encoders_of_other_inputs_are_refused(folders: list[Path]) -> None:
    from onnxopt.model_file import load

    path = folders[1] / "onnx" / "encoder_model.onnx"
    model = load(path)
    model.graph.inputs[1].name = "kept_mask"
    save(model, path, overwrite=True)
    with pytest.raises(ModelError, match=r"ONX308.*input_ids, kept_mask against input_ids, attention_mask"):
        onnxopt.generation(folders, sentences(3), **SHORT)
