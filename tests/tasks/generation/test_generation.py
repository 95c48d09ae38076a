"""Decoders side by side: what is one, what is measured, and how it is shown."""

import json

import numpy as np
import pytest
from onnx import TensorProto

import onnxopt
from onnxopt.catalog import parse
from onnxopt.document import units
from onnxopt.errors import DataError, ModelError, UsageError
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import target_of
from onnxopt.tasks.generation.decoder import decoder_of, vocabulary_of
from onnxopt.tasks.generation.generation import generation
from tests import builders
from tests.measure.generation.decoders import VOCABULARY, causal, texts
from tests.tasks.parts.seq2seq import decoder

SHORT = {"prompt_tokens": 6, "new_tokens": 3, "seconds": 0.05}


def rows(count: int = 10) -> dict[str, np.ndarray]:
    ids = np.array(texts(count))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.tile(np.arange(12), (count, 1))}


def quantized() -> object:
    passes = parse("quantize-weights{bits=4,method=rtn,least=16}")
    return Pipeline(passes).run(causal(), Context(target_of("x86-vnni"))).model


def test_the_parts_of_a_decoder_are_found_by_name_and_type():
    decoder, from_text = decoder_of("model", causal())
    ports = decoder.ports
    assert (ports.tokens, ports.mask, ports.positions, ports.switch) == (
        "input_ids",
        "attention_mask",
        "position_ids",
        "",
    )
    assert ports.caches == tuple((f"past_key_values.0.{role}", f"present.0.{role}") for role in ("key", "value"))
    assert ports.logits == "logits"
    assert {array.shape for array in decoder.start.values()} == {(1, 0, 16)}
    assert [spec.name for spec in from_text.inputs] == ["input_ids", "attention_mask", "position_ids"]
    assert vocabulary_of(decoder) == VOCABULARY


def test_a_merged_decoder_has_a_switch():
    decoder, from_text = decoder_of("merged", causal(extra=(("use_cache_branch", TensorProto.BOOL, [1]),)))
    assert decoder.ports.switch == "use_cache_branch"
    assert "use_cache_branch" not in [spec.name for spec in from_text.inputs]
    assert generation(decoder.model, **SHORT).speed


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (builders.BUILDERS["gemm_mlp"](), "no input takes the keys and values.*Give decoders with a cache"),
        (causal(extra=(("scales", TensorProto.FLOAT, ["b", "s", 8]),)), "needs scales too.*Give decoders with a cache"),
        (causal(extra=(("encoder_hidden_states", TensorProto.FLOAT, ["b", "s", 8]),)),
         "needs encoder_hidden_states too.*name the folder of both"),
        (decoder(past=True), "needs encoder_attention_mask, past_key_values.0.encoder.key.*name the folder of both"),
    ],
)  # fmt: skip
def test_other_models_are_refused_with_the_reason(model, why):
    with pytest.raises(UsageError, match=rf"ONX112.*{why}"):
        generation(model, **SHORT)


def test_a_file_of_4_bits_is_beside_its_baseline_in_all_measures():
    found = onnxopt.generation({"float": causal(), "4 bits": quantized()}, rows(), **SHORT)
    assert isinstance(found, onnxopt.Generation)
    assert list(found.speed) == list(found.perplexity) == list(found.private_bytes) == ["float", "4 bits"]
    ratio = found.perplexity["4 bits"].ratio
    assert ratio is not None
    assert ratio.value == pytest.approx(found.perplexity["4 bits"].value / found.perplexity["float"].value)
    assert ratio.value != 1
    lines = "\n".join(found.document.blocks[1].lines)
    assert "The perplexity of 4 bits differs by" in lines
    nats = found.perplexity["4 bits"].divergence
    assert nats is not None
    assert nats.low > 0
    assert f"The divergence of a token from the baseline's is {units.significant(nats.value)} nats" in lines
    assert "Prompts of 6 tokens and 3 generated ones, from the texts given" in lines
    data = json.loads(json.dumps(found.document.data))
    assert [model["model"] for model in data["models"]] == ["float", "4 bits"]
    assert "<table" in found._repr_html_()


def test_without_data_there_is_no_perplexity():
    found = generation(causal(), **SHORT)
    assert found.perplexity == {}
    assert found.document.blocks[0].rows[0][5] == "-"
    assert "drawn at random" in found.document.blocks[1].lines[-1]


def test_padding_is_no_part_of_a_text(monkeypatch):
    from onnxopt.tasks.generation import generation as task

    padded = rows(4)
    padded["attention_mask"][:, 9:] = 0
    seen = []

    def look(decoders, read, *_, **__):
        seen.extend(len(text) for text in read)
        return {}

    monkeypatch.setattr(task, "measure_perplexity", look)
    generation(causal(), padded, **SHORT)
    assert seen == [9] * 4


def test_prompts_have_the_stated_length(monkeypatch):
    from onnxopt.tasks.generation import generation as task

    seen = []
    plain = task.measure_speed

    def look(decoders, prompts, *rest, **options):
        seen.append([len(prompt) for prompt in prompts])
        return plain(decoders, prompts, *rest, **options)

    monkeypatch.setattr(task, "measure_speed", look)
    generation(causal(), rows(4), prompt_tokens=30, new_tokens=2, seconds=0.05)
    generation(causal(), rows(1), prompt_tokens=20, new_tokens=2, seconds=0.05)
    assert seen == [[30], [20]]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="ONX101"):
        generation(causal(), **(SHORT | {"new_tokens": 1}))
    with pytest.raises(UsageError, match="ONX101"):
        generation(causal(), **(SHORT | {"prompt_tokens": 0}))
    with pytest.raises(DataError, match="ONX205"):
        generation(causal(), {name: array[:, :1] for name, array in rows().items()}, **SHORT)
    other = causal(extra=(("use_cache_branch", TensorProto.BOOL, [1]),))
    named = generation({"a": causal(), "b": other}, **SHORT)  # the switch is no input from a text
    assert list(named.speed) == ["a", "b"]
    renamed = causal()
    next(value for value in renamed.graph.inputs if value.name == "input_ids").name = "token_ids"
    with pytest.raises(ModelError, match=r"ONX308.*input_ids"):
        generation({"a": causal(), "b": renamed}, **SHORT)
