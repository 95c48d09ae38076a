"""What `inspect --spectrum` says of each layer."""

import numpy as np
import pytest

from onnxopt import model_file
from onnxopt.errors import NativeError
from onnxopt.measure.latency.latency_table import LatencyTable
from onnxopt.tasks import spectrum as spectrum_view
from onnxopt.tasks.spectrum import spectrum_document
from tests import builders
from tests.builders import F, Net
from tests.reconstruction.test_scan_layers import cell


@pytest.fixture
def path(tmp_path):
    """A product whose weight has energies 90, 6, 3.5 and 0.5, and a convolution with a stride."""
    net = Net(80)
    left, right = (np.linalg.qr(net.rng.standard_normal((n, 4)))[0] for n in (40, 50))
    weight = left * np.sqrt([90, 6, 3.5, 0.5]) @ right.T
    net.node("MatMul", "x", net.const(weight.astype(np.float32)), out="y", name="fc")
    net.conv("image", 3, 8, strides=[2, 2], name="conv")
    net.nodes[-1].output[0] = "z"
    inputs = [("x", F, ["rows", 40]), ("image", F, [1, 3, 8, 8])]
    model = net.model(inputs, [("y", F, ["rows", 50]), ("z", F, [1, 8, 4, 4])])
    model_file.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def layers(path, **options):
    return {layer["name"]: layer for layer in spectrum_document(path, {"rows": 2}, **options).data["layers"]}


def test_ranks_keep_the_energy_and_costs_are_those_of_the_chain(path):
    found = layers(path)["fc"]
    assert [at["rank"] for at in found["ranks"]] == [1, 2, 3]
    assert [at["macs_share"] for at in found["ranks"]] == [pytest.approx(r * 90 / 2000) for r in (1, 2, 3)]
    assert found["macs"] == 2 * 40 * 50
    assert found["weight_shape"] == [50, 40]


def test_a_stride_is_paid_once(path):
    found = layers(path)["conv"]
    for at in found["ranks"]:
        rank = at["rank"]
        assert at["macs_share"] == pytest.approx((rank * 27 + 8 * rank) / (8 * 27))


def test_times_are_measured_on_request(path, monkeypatch):
    def clock(models, feeds, runtime):
        return [0.0 if m.graph[0].op_type == "Shape" else float(len(m.graph)) for m in models]

    table = LatencyTable(None, clock=clock, emulation=lambda: None)
    monkeypatch.setattr(spectrum_view, "LatencyTable", lambda _: table)
    document = spectrum_document(path, {}, measure=True)
    assert [layer["time_share"] for layer in document.data["layers"]] == [2.0, 2.0]
    assert document.blocks[0].columns[-1].title == "time"
    assert "time_share" not in layers(path)["fc"]


def test_no_times_under_emulation(path, monkeypatch):
    def emulated(folder):
        return LatencyTable(None, emulation=lambda: "QEMU")

    monkeypatch.setattr(spectrum_view, "LatencyTable", emulated)
    with pytest.raises(NativeError):
        spectrum_document(path, {}, measure=True)


def test_rows_fit_a_terminal_of_80_columns(tmp_path):
    model_file.save(builders.BUILDERS["residual_cnn"](), tmp_path / "m.onnx")
    document = spectrum_document(tmp_path / "m.onnx", {})
    widths = [max(len(row[i]) for row in document.blocks[0].rows) for i in range(6)]
    assert sum(widths[1:]) + 2 * len(widths) <= 60
    assert all(len(line) <= 79 for line in document.blocks[1].lines)


def test_every_builder_has_a_spectrum(tmp_path):
    for name, make in builders.BUILDERS.items():
        model_file.save(make(), tmp_path / f"{name}.onnx")
        for layer in spectrum_document(tmp_path / f"{name}.onnx", {}).data["layers"]:
            ranks = [at["rank"] for at in layer["ranks"]]
            assert ranks == sorted(ranks)
            assert 1 <= ranks[0] <= ranks[-1] <= layer["full_rank"]


def test_layers_in_groups_and_bodies_are_shown_and_others_named(tmp_path):
    net = Net(5)
    x = net.conv("x", 3, 16, name="first")
    x = net.conv(net.node("Relu", x), 16, 16, group=2, name="halves")
    x = net.conv(net.node("Relu", x), 16, 16, group=16, name="each")
    net.pool_fc(x, 16, 4)
    model_file.save(net.model([builders.IMAGE], [builders.CLASSES]), tmp_path / "groups.onnx")
    data = spectrum_document(tmp_path / "groups.onnx", {}).data
    assert {layer["name"]: layer["full_rank"] for layer in data["layers"]}["halves"] == 8
    assert data["left"] == {"each": "each of its channels is a separate group"}
    model_file.save(cell(), tmp_path / "scan.onnx")
    shown = spectrum_document(tmp_path / "scan.onnx", {}, measure=True).data["layers"]
    assert [layer["name"] for layer in shown] == ["gates", "project"]
    assert all(layer["time_share"] > 0 for layer in shown)
