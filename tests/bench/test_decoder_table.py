"""Bits by place are those of llama.cpp's mixes, and the verdicts on chosen bits follow from the intervals."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from onnxopt.catalog import parse
from onnxopt.model_file import save
from onnxopt.passes.quantize_weights import QuantizeWeights
from tests.builders import F, Net

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def folder() -> Iterator[None]:
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


@pytest.fixture
def table(folder: None) -> ModuleType:
    return importlib.import_module("decoder_table")


@pytest.fixture
def bits(folder: None) -> ModuleType:
    pytest.importorskip("torch")
    return importlib.import_module("bits")


def test_the_first_and_last_eighth_and_every_third_layer_get_8_bits(table: ModuleType) -> None:
    def layers(part: str) -> list[int]:
        return [i for i in range(16) if table.gets_8_bits(f"/blocks.{i}/{part}/MatMul", 16)]

    assert layers("down") == layers("parts") == [0, 1, 4, 7, 10, 13, 14, 15]
    assert layers("up") == layers("mixed") == []
    assert table.gets_8_bits("/MatMul", 16)


def test_the_pipeline_gives_each_product_its_bits(table: ModuleType, tmp_path: Path) -> None:
    net, x = Net(1), "x"
    for layer in range(3):
        for part in ("up", "down"):
            x = net.node("Tanh", net.node("MatMul", x, net.weight(64, 64), name=f"/blocks.{layer}/{part}/MatMul"))
    save(net.model([("x", F, ["n", 64])], [(x, F, ["n", 64])], opset=17), tmp_path / "model.onnx")
    _, four, eight = parse(table.mixed_passes(tmp_path / "model.onnx"))
    assert isinstance(four, QuantizeWeights)
    assert isinstance(eight, QuantizeWeights)
    assert (four.bits, eight.bits) == (4, 8)
    assert set(four.exclude) == {"/blocks.2/down/MatMul"}


@pytest.mark.parametrize(
    ("ratio", "same", "said"),
    [
        ([1.1, 1.02, 1.2], False, "faster"),
        ([1.1, 0.98, 1.2], False, "equal"),
        ([0.9, 0.8, 0.99], False, "slower"),
        (None, False, "unsure"),
        ([1.1, 1.02, 1.2], True, "the same form"),  # the clock may tell two files apart that are one
    ],
)
def test_bits_beat_another_form_only_beyond_doubt(bits: ModuleType, ratio: Any, same: bool, said: str) -> None:
    assert bits.verdict(ratio, same=same) == said


def test_shapes_count_where_the_choice_is_faster_than_a_form(bits: ModuleType) -> None:
    def row(four: str, eight: str) -> dict[str, Any]:
        return {"model": "m", "beside": {"4 bits": {"verdict": four}, "dynamic INT8": {"verdict": eight}}}

    rows = [row("faster", "the same form"), row("faster", "faster"), row("unsure", "equal"), row("slower", "slower")]
    assert bits.beaten(rows) == {"m": {"4 bits": 2, "dynamic INT8": 1}}
