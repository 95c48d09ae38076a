"""Bits by place are those of llama.cpp's mixes, and the verdicts on chosen bits follow from the intervals."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

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


def test_bits_beat_another_form_only_beyond_doubt_and_without_more_loss(bits: ModuleType) -> None:
    def row(shape: int, rival: str, low: float, *, loss: float = 1.0) -> dict[str, object]:
        found = {"model": "m", "shape": [1, shape], "rival": rival, "loss": loss, "rival_loss": 1.0, "passes": ""}
        found["speedup"] = None if low == 0 else [low + 0.1, low, low + 0.2]
        return {**found, "verdict": bits._verdict(found)}

    four, eight = "4 bits", "dynamic INT8"
    rows = [
        row(8, four, 1.1), row(8, eight, 1.05), row(32, four, 1.1), row(32, eight, 0.95),
        row(128, four, 1.1), row(128, eight, 1.3, loss=1.5), row(256, four, 0), row(256, eight, 1.2),
        row(512, four, 0.5), row(512, eight, 1.2),
    ]  # fmt: skip
    assert [one["verdict"] for one in rows] == [
        "faster", "faster", "faster", "equal", "faster", "more loss", "unsure", "faster", "slower", "faster"
    ]  # fmt: skip
    assert bits.beaten(rows) == {"m": 1}
    # The clock may tell two files apart that are one.
    same = {**row(8, "dynamic INT8", 1.1), "passes": "simplify,quantize-dynamic"}
    assert bits._verdict(same) == "the same"
