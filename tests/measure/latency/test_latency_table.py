"""Times of layers are measured once per machine and shape, and never made up."""

import json

import numpy as np
import pytest

from onnxopt.errors import NativeError
from onnxopt.measure.latency.latency_table import LatencyTable, alone, copies, fastest_ms, timed_by
from onnxopt.measure.runtime.session import Runtime
from tests import builders, numerics
from tests.builders import F, Net


class Clock:
    """Counts what it is asked for; every model takes as many milliseconds as were measured before it."""

    def __init__(self):
        self.measured = 0

    def __call__(self, models, feeds, runtime):
        start, self.measured = self.measured, self.measured + len(models)
        return [float(n + 1) for n in range(start, self.measured)]


def layer(outputs=6, seed=0, **attributes):
    net = Net(seed)
    net.node("Gemm", "x", net.weight(outputs, 4), out="y", name="fc", transB=1, **attributes)
    model = net.model([("x", F, ["batch", 4])], [("y", F, ["batch", outputs])])
    node = model.graph[0]
    return alone(node, model.graph.initializers[node.inputs[1].name].const_value, (2, 4), 1)


FEEDS = {"x": np.ones((2, 4), np.float32)}


def real():
    return None


def test_what_is_known_is_not_measured_again(tmp_path):
    clock = Clock()
    table = LatencyTable(tmp_path, clock=clock, emulation=real)
    assert table.times_ms([layer(6), layer(7)], FEEDS) == [1.0, 2.0]
    assert table.times_ms([layer(7, seed=9), layer(8)], FEEDS) == [2.0, 3.0]
    again = LatencyTable(tmp_path, clock=clock, emulation=real)
    assert again.times_ms([layer(8), layer(6)], FEEDS) == [3.0, 1.0]
    assert clock.measured == 3


def test_shapes_types_and_attributes_make_another_layer(tmp_path):
    clock = Clock()
    table = LatencyTable(tmp_path, clock=clock, emulation=real)
    table.times_ms([layer()], FEEDS)
    table.times_ms([layer(alpha=0.5)], FEEDS)
    table.times_ms([layer()], {"x": np.ones((3, 4), np.float32)})
    table.times_ms([layer()], {"x": np.ones((2, 4), np.float64)})
    assert clock.measured == 4


def test_other_threads_have_a_file_of_their_own(tmp_path):
    for threads in (1, 2, 1):
        LatencyTable(tmp_path, Runtime(threads=threads), Clock(), real).times_ms([layer()], FEEDS)
    assert len(list(tmp_path.iterdir())) == 2


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    clock = Clock()
    table = LatencyTable(None, clock=clock, emulation=real)
    assert table.times_ms([layer()], FEEDS) == table.times_ms([layer()], FEEDS) == [1.0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"a": "b", "c": -1, "d": null}', "\x00"])
def test_a_damaged_file_is_measured_anew(tmp_path, text):
    LatencyTable(tmp_path, clock=Clock(), emulation=real).times_ms([layer()], FEEDS)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    clock = Clock()
    assert LatencyTable(tmp_path, clock=clock, emulation=real).times_ms([layer()], FEEDS) == [1.0]
    assert clock.measured == 1
    assert list(json.loads(file.read_text()).values()) == [1.0]


def test_what_others_measured_meanwhile_is_kept(tmp_path):
    one, other = (LatencyTable(tmp_path, clock=Clock(), emulation=real) for _ in range(2))
    one.times_ms([layer(6)], FEEDS)
    other.times_ms([layer(7)], FEEDS)
    (file,) = tmp_path.iterdir()
    assert len(json.loads(file.read_text())) == 2


def test_a_folder_that_cannot_be_made_is_no_failure(tmp_path):
    (tmp_path / "file").write_text("")
    table = LatencyTable(tmp_path / "file" / "cache", clock=Clock(), emulation=real)
    assert table.times_ms([layer()], FEEDS) == [1.0]


def test_an_emulated_processor_is_refused(tmp_path):
    with pytest.raises(NativeError) as caught:
        LatencyTable(tmp_path, clock=Clock(), emulation=lambda: "QEMU")
    assert caught.value.code == "ONX403"


def test_a_layer_alone_computes_what_it_does_in_its_model():
    net = Net(3)
    net.conv("x", 3, 4, bias=False, strides=[2, 1], name="conv")
    net.node("Relu", net.nodes[-1].output[0], out="y")
    model = net.model([builders.IMAGE], [("y", F, ["batch", 4, None, None])])
    node, feeds = model.graph[0], builders.feeds_of(model)
    single = alone(node, model.graph.initializers[node.inputs[1].name].const_value, (2, 3, 8, 8), 1)
    before, after = builders.run(model, feeds), builders.run(single, feeds)
    assert numerics.largest_difference(before, [np.maximum(after[0], 0)]) < numerics.EXACT_RELATIVE


def test_copies_stand_side_by_side_with_weights_of_their_own():
    model = copies(layer(), 3)
    outputs = builders.run(model, FEEDS)
    weights = [v.const_value.numpy() for v in model.graph.initializers.values()]
    assert len(outputs) == len(weights) == 3
    for output, weight in zip(outputs, weights, strict=True):
        assert numerics.largest_difference([FEEDS["x"] @ weight.T], [output]) < numerics.EXACT_RELATIVE
    assert not np.array_equal(weights[0], weights[1])
    assert len(layer().graph.initializers) == 1


def test_real_models_take_time():
    model = layer()
    assert all(0 < time < 1000 for time in fastest_ms([model, copies(model, 3)], FEEDS, Runtime()))
    assert 0 < LatencyTable(None, emulation=real).once_ms(model, FEEDS) < 1000


def test_a_lone_thread_is_timed_by_what_it_works_itself():
    assert timed_by(Runtime()).pauses
    assert not timed_by(Runtime(threads=2)).pauses


def test_a_run_that_fails_is_an_error_of_this_program():
    model = builders.BUILDERS["runs_at_one_only"]()
    with pytest.raises(NativeError, match="ONX401"):
        fastest_ms([model], {"x": np.zeros((4, 3, 8, 8), np.float32)}, Runtime())
