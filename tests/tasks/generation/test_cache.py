"""A decoder keeps its keys and values in integers, and the texts that it reads lose little by that."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import onnxopt
from onnxopt.errors import UsageError
from onnxopt.model_file import load, save
from onnxopt.quantization.cache import float_caches, with_integer_caches
from onnxopt.tasks.generation.cache import with_cache_of
from tests.cli.conftest import cli
from tests.measure.generation.decoders import HEAD, KV_HEADS, causal, grouped, texts

__all__ = ["cli"]


def data(count: int = 80) -> dict[str, np.ndarray]:
    ids = np.array(texts(count))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def read(model: ir.Model | Path, tokens: np.ndarray, pieces: tuple[int, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the logits behind each token, read in pieces, and the cache at the end."""
    session = onnxruntime.InferenceSession(
        str(model) if isinstance(model, Path) else ir.to_proto(model).SerializeToString()
    )
    specs = session.get_inputs()[2:]
    kinds = {"tensor(float)": np.float32, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8}
    cache = [np.zeros((1, KV_HEADS, 0, spec.shape[3]), kinds[spec.type]) for spec in specs]
    logits, start = [], 0
    for count in pieces:
        feeds = {"input_ids": tokens[None, start : start + count], "attention_mask": np.ones((1, start + count), int)}
        feeds |= {spec.name: array for spec, array in zip(specs, cache, strict=True)}
        found, *cache = session.run(None, feeds)
        logits.append(found[0])
        start += count
    return np.concatenate(logits), cache


@pytest.mark.parametrize(("bits", "kind", "size", "most"), [(8, np.int8, HEAD, 0.02), (4, np.uint8, HEAD // 2, 0.3)])
def test_keys_and_values_are_integers_with_a_scale_per_channel(bits: int, kind: type, size: int, most: float) -> None:
    source, tokens = grouped(), texts(1)[0]
    made, note = with_cache_of(source, data(), bits)
    assert note.startswith(f"2 caches in {bits} bits, ranges from 40 texts. Perplexity ")
    expected, floats = read(source, tokens, (6, 1, 1, 1, 1, 1, 1))
    found, integers = read(made, tokens, (6, 1, 1, 1, 1, 1, 1))
    assert {array.dtype for array in integers} == {np.dtype(kind)}
    assert {array.shape for array in integers} == {(1, KV_HEADS, 12, size)}
    assert 0 < np.abs(found - expected).max() < most * np.abs(expected).max()
    if bits == 8:
        scales = [made.graph.initializers[f"{name}_scale"].const_value.numpy() for name in
                  ("past_key_values.0.key", "past_key_values.0.value")]  # fmt: skip
        for scale, one, other in zip(scales, integers, floats, strict=True):
            assert scale.shape == (KV_HEADS * HEAD,)
            back = one * scale.reshape(1, KV_HEADS, 1, HEAD)
            assert np.abs(back - other).max() <= 0.51 * scale.max()


def test_the_source_is_as_it_was_and_nothing_else_changes() -> None:
    source = grouped()
    before = ir.to_proto(source).SerializeToString()
    largest = {name: np.ones((KV_HEADS, HEAD)) for name in ("present.0.key", "present.0.value")}
    made = with_integer_caches(source, largest, 8)
    assert ir.to_proto(source).SerializeToString() == before
    assert [n.op_type for n in made.graph] == [n.op_type for n in source.graph]
    assert not float_caches(made)


def test_a_cache_that_other_nodes_read_or_that_the_caller_does_not_keep_stays() -> None:
    read_twice, inner = grouped(), grouped()
    assert len(float_caches(grouped())) == 2
    key = next(value for value in read_twice.graph.inputs if value.name == "past_key_values.0.key")
    read_twice.graph.append(ir.node("Identity", [key]))
    inner.graph.outputs.pop()
    assert float_caches(read_twice) == float_caches(inner) == ()


def test_the_cost_is_that_of_the_same_texts(tmp_path: Path) -> None:
    files = [tmp_path / "float.onnx", tmp_path / "cache.onnx"]
    save(grouped(), files[0])
    made = onnxopt.quantize(files[0], data(), mode="cache", out=files[1])
    found = onnxopt.generation(files, data(), prompt_tokens=6, new_tokens=6, seconds=0.01)
    _, changed = found.perplexity.values()
    ratio = changed.ratio
    assert ratio is not None
    assert ratio.value == pytest.approx(1, abs=0.01)
    assert "The perplexity of a cache of 8 bits differs by" in made.note
    assert load(files[1]).metadata_props


def test_what_has_no_such_cache_is_refused() -> None:
    with pytest.raises(UsageError, match=r"ONX112.*GroupQueryAttention"):
        with_cache_of(causal(), data())
    with pytest.raises(UsageError, match=r"ONX101.*bits=3"):
        with_cache_of(grouped(), data(), 3)
    with pytest.raises(UsageError, match=r"ONX114.*texts"):
        onnxopt.quantize(grouped(), mode="cache")
    with pytest.raises(UsageError, match=r"ONX102.*method"):
        onnxopt.quantize(grouped(), data(), mode="cache", method="mse")


def test_the_command_writes_the_file(tmp_path: Path, cli) -> None:
    save(grouped(), tmp_path / "float.onnx")
    np.savez(tmp_path / "texts.npz", **data())
    words = ["quantize", tmp_path / "float.onnx", "--mode", "cache", "--data", tmp_path / "texts.npz"]
    ended = cli(*words, "-o", tmp_path / "cache.onnx", "--bits", "4")
    assert ended.code == 0, ended.err
    assert "2 caches in 4 bits" in ended.out
    assert {spec.type for spec in onnxruntime.InferenceSession(tmp_path / "cache.onnx").get_inputs()[2:]} == {
        "tensor(uint8)"
    }
    for more in (
        ("--mode", "dynamic", "--bits", "4"),
        ("--weight-type", "int8"),
        ("--effort", "high"),
        ("--time-limit", "9"),
    ):
        ended = cli(*words, "-o", tmp_path / "other.onnx", *more)
        assert ended.code == 2
        assert "ONX112" in ended.err
