"""A model that protobuf cannot hold."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxopt.catalog import parse
from onnxopt.model_file import load, save, size_bytes
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import target_of
from tests import builders
from tests.builders import ROWS, F, Net

COUNT, ELEMENTS = 9, 1 << 26


@pytest.mark.slow
def test_a_model_above_two_gigabytes(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 6 << 30:
        pytest.skip("this needs 6 GB of disk")
    size = 4 * ELEMENTS
    net, x = Net(0), "x"
    with (tmp_path / "sparse.bin").open("wb") as file:
        for i in range(COUNT):
            file.seek(size * i)
            file.write(np.float32(i + 1).tobytes())
            tensor = onnx.TensorProto(name=f"big{i}", data_type=F, dims=[8, ELEMENTS // 8], data_location=1)
            for key, value in (("location", "sparse.bin"), ("offset", size * i), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            net.weights.append(tensor)
            first = net.node("Slice", tensor.name, net.ints(0, 0), net.ints(8, 1))
            x = net.node(
                "MatMul", net.node("Add", x, net.node("Transpose", first)), net.const(np.eye(8, dtype=np.float32))
            )
        file.truncate(size * COUNT)
    net.node("Identity", x, out="y")
    source = tmp_path / "m.onnx"
    source.write_bytes(net.proto([ROWS], [("y", F, ["batch", 8])], opset=13).SerializeToString())
    model = load(source)
    assert size_bytes(model) > 2 << 30

    context = Context(target_of("x86-vnni"), builders.samples_of(model))
    dynamic, static = Pipeline(parse("quantize-dynamic,quantize-static")).run(model, context).steps
    assert len(dynamic.edits) == COUNT
    assert [skip.target for skip in static.skipped] == ["graph"]
    assert "1.5 GB" in static.skipped[0].reason

    files = save(model, tmp_path / "out.onnx")
    assert [f.name for f in files] == ["out.onnx", "out.onnx.data"]
    assert files[1].stat().st_size >= size * COUNT
    (tmp_path / "sparse.bin").unlink()
    assert size_bytes(load(files[0])) == size_bytes(model)
    session = onnxruntime.InferenceSession(str(files[0]), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.zeros((1, 8), np.float32)})
    np.testing.assert_array_equal(found, np.eye(8, dtype=np.float32)[:1] * sum(range(1, COUNT + 1)))
    for file in files:  # pytest keeps temporary folders
        file.unlink()
