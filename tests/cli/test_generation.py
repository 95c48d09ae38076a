"""The command that measures decoders."""

import json

import pytest

from onnxopt.model_file import save
from onnxopt.options.reading import ReadOptions
from onnxopt.tasks.generation.generation import generation
from tests.measure.generation.decoders import VOCABULARY, causal, texts


def test_the_command_reads_texts_with_a_tokenizer(tmp_path, cli):
    path = save(causal(), tmp_path / "model.onnx")[0]
    words = [f"w{i}" for i in range(VOCABULARY)]
    (tmp_path / "vocab.json").write_text(json.dumps({"vocab": words}))
    lines = [json.dumps({"text": " ".join(words[i] for i in text)}) for text in texts(9)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    options = ["--prompt-tokens", 6, "--new-tokens", 3, "--seconds", 0.05, "--format", "json"]
    ended = cli("generation", path, path, "--data", tmp_path / "prompts.jsonl", "--vocab", tmp_path / "vocab.json",
                *options)  # fmt: skip
    assert ended.code == 0, ended.err
    models = json.loads(ended.out)["models"]
    given = generation(
        {"a": causal()},
        tmp_path / "prompts.jsonl",
        prompt_tokens=6,
        new_tokens=3,
        seconds=0.05,
        read=ReadOptions(vocab=str(tmp_path / "vocab.json")),
    )
    (own,) = given.perplexity.values()
    assert models[0]["perplexity"]["value"] == pytest.approx(own.value)
    assert models[0]["tokens_per_s"] > 0
