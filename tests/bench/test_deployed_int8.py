"""The bench of INT8 detectors and recognizers: its labels, and its table."""

import importlib
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxopt.model_file import save
from tests import builders


@pytest.fixture(scope="module")
def bench(bench_module):
    pytest.importorskip("PIL", reason="Pillow draws the inputs")
    return bench_module("deployed_int8")


@pytest.fixture(scope="module")
def truth(bench: ModuleType) -> ModuleType:
    return importlib.import_module("deployed_truth")


def test_letters_are_where_their_boxes_say(bench, truth):
    cases = importlib.import_module("deployed_cases")
    for index in range(4):
        picture, boxes = cases.drawn_characters(index)
        (given,) = cases.characters(index).values()
        assert np.array_equal(given[0].transpose(1, 2, 0)[..., ::-1], np.asarray(picture, np.float32))
        assert truth.TRUTHS["ddddocr-det"].truth(index, Path()) == [(0, 1.0, box) for box in boxes]
        for box in boxes:
            # A letter has one colour, which the smooth ground beside it has not.
            inside = np.asarray(picture.crop(box)).reshape(-1, 3)
            counts = np.unique(inside, axis=0, return_counts=True)[1]
            assert counts.max() > 0.05 * len(inside)


def test_the_label_of_a_line_is_the_text_in_it(truth, tmp_path):
    characters = [chr(code) for code in range(33, 127)]
    path, *_ = save(builders.gemm_mlp(), tmp_path / "model.onnx")
    proto = onnx.load(path)
    proto.metadata_props.add(key="character", value="\n".join(characters))
    onnx.save(proto, path)
    for index in range(20):
        width, text = truth._text_of(np.random.default_rng(index))
        (pixels,) = truth.drawn_line(index).values()
        assert pixels.shape == (1, 3, 48, width)
        label = truth.text_of_line(index, path)
        classes = ["", *characters, " "]
        assert "".join(classes[ord(code) - 0xE000] for code in label) == text.replace(" ", "")
        # Nothing of the text is cut off: the last columns are paper.
        assert pixels[..., -2:].min() > pixels.min() + 0.3


def test_texts_are_compared_without_spaces_and_by_their_characters_first(truth):
    steps = np.zeros((1, 6, 5), np.float32)
    steps[0, range(6), [1, 4, 2, 0, 2, 4]] = 1  # the last class is the space, the first one nothing
    text = truth.read_without_spaces({"y": steps})
    assert text == "".join(map(chr, (0xE001, 0xE002, 0xE002)))
    figures = truth.characters_right(["ab", "cd"], ["ab", "cx"])
    assert list(figures.items()) == [("1 - CER", 0.75), ("exact", 0.5)]


def test_captchas_are_read_as_capitals_of_the_list_in_the_package(truth, tmp_path):
    cases = importlib.import_module("deployed_cases")
    listed = list(dict.fromkeys(["", *cases.LETTERS, *cases.LETTERS.lower()]))
    model, wheel = tmp_path / "models" / "ddddocr-1" / "common.onnx", tmp_path / "packages" / "ddddocr==1" / "a.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as package:
        package.writestr("ddddocr/charsets.py", f"CHARSET_OLD = ['']\nCHARSET_BETA = {listed!r}\n")
    label = truth.text_of_captcha(3, model)
    written = cases.captcha_text(np.random.default_rng(3))
    assert "".join(listed[ord(code) - 0xE000] for code in label) == written
    steps = np.zeros((2 * len(written), 1, len(listed)), np.float32)
    for place, letter in enumerate(written):
        steps[2 * place, 0, listed.index(letter.lower() if place % 2 else letter)] = 1
    assert truth.read_capitals(model, {"y": steps}) == label


def test_a_file_whose_outputs_cannot_be_read_is_a_failure(bench, monkeypatch):
    said = {"fp32.onnx": [1, 2], "good.onnx": [1, 3]}

    def read(case, path, first, count):
        if path not in said:
            raise TypeError("'int' object is not iterable")
        return said[path]

    monkeypatch.setattr(bench, "read", read)
    case = SimpleNamespace(name="none", reading=SimpleNamespace(agree=lambda a, b: {"same": np.mean(np.equal(a, b))}))
    monkeypatch.setattr(bench, "labelled", lambda case, model: case)
    files = {"fp32": "fp32.onnx", "bad": "bad.onnx", "good": "good.onnx"}
    figures, failures = bench.judge(case, files, 0, 2)
    assert figures == {"fp32": {"same": 1.0}, "good": {"same": 0.5}}
    assert failures == {"bad": "its outputs cannot be read: 'int' object is not iterable"}


def weights_in_nodes(*chain: str) -> onnx.ModelProto:
    """Return a product whose weight lies in a Constant node, as some exporters write it, behind other operators."""
    net = builders.Net(0)
    weight = numpy_helper.from_array(net.rng.standard_normal((8, 4)).astype(np.float32))
    value, scale, zero = net.node("Constant", value=weight), net.const(np.float32(0.1)), net.const(np.int8(0))
    for operator in chain:
        value = net.node(operator, value, scale, zero)
    net.node("MatMul", "x", value, out="y")
    return net.proto([builders.ROWS], [builders.CLASSES])


def test_a_file_is_quantized_if_it_quantizes_its_weights_when_it_runs(bench, tmp_path):
    for chain, expected in (((), False), (("QuantizeLinear", "DequantizeLinear"), True)):
        onnx.save(weights_in_nodes(*chain), tmp_path / "model.onnx")
        assert bench.quantized(tmp_path / "model.onnx") is expected
    small = onnx.helper.make_tensor("w", onnx.TensorProto.INT8, [2, 2], [1, 2, 3, 4])
    model = weights_in_nodes()
    model.graph.node[0].attribute[0].t.CopyFrom(small)
    onnx.save(model, tmp_path / "model.onnx")
    assert bench.quantized(tmp_path / "model.onnx")


def test_weights_in_nodes_get_worse_too(bench):
    model = importlib.import_module("controls").worse(weights_in_nodes())
    assert model is not None
    feeds = {"x": np.ones((1, 8), np.float32)}
    before, after = (builders.run(m.SerializeToString(), feeds)[0] for m in (weights_in_nodes(), model))
    assert np.abs(after - before).max() > 0.1 * np.abs(before).max()


def row(figure: float, speed: float, size: int = 100, **more: Any) -> dict[str, Any]:
    interval = {"low": speed - 0.05, "value": speed, "high": speed + 0.05}
    base = {"figures": {"AP": figure, "boxes": 7}, "size_bytes": size, "speedup": interval, "p99_ms": 2.0}
    return base | {"quantized": True} | more


def record(**controls: dict[str, Any]) -> dict[str, Any]:
    rows = {
        "fp32": row(0.8, 1.0, 400) | {"speedup": None},
        "onnxopt": row(0.7995, 2.0, seconds=12.0),
        "ort-default": row(0.4, 0.5),
        "onnxslim": row(0.8, 1.0, 400, quantized=False),
    }
    return {"model": "m", "labels": True, "n": 10, "rows": rows | controls, "failures": {"nncf": "no"}, "load": 1.0}


def test_the_table_says_class_division_and_failures(bench):
    text = bench.table([record()])
    assert "| m | labels | fp32 | AP 0.800, 7 boxes |  | 1 | 2.00 ms | 1.0x | - |" in text
    assert "|  |  | onnxopt | AP 0.799, 7 boxes | >= 99.9 % | 2.00x [1.95, 2.05] | 2.00 ms | 4.0x | 12.0 s |" in text
    assert "| ort-default | AP 0.400, 7 boxes | below 99 % | 0.50x" in text
    assert "| onnxslim (float) |" in text
    assert "| nncf | fails |" in text


def test_controls_that_are_not_found_are_named(bench):
    right = {"again": row(0.8, 1.0), "planted-slower": row(0.8, 0.5), "planted-worse": row(0.1, 1.0)}
    assert bench.missed([record(**right)]) == {"again": [], "planted-slower": [], "planted-worse": []}
    wrong = {"again": row(0.8, 1.2), "planted-slower": row(0.8, 0.97), "planted-worse": row(0.795, 1.0)}
    assert bench.missed([record(**wrong)]) == {"again": ["m"], "planted-slower": ["m"], "planted-worse": ["m"]}
