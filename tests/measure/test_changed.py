"""What changed versions compute from the last point before the change is what they compute from the inputs."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.edit import set_weight
from onnxopt.measure import changed
from onnxopt.measure.changed import ChangedOutputs
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file.memory import weight_bytes
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import Samples
from onnxopt.target import target_of
from tests import builders


class Reads:
    """Samples that count how often they are read."""

    def __init__(self, samples: Samples) -> None:
        self._source, self.count = samples.source, 0
        self.samples = replace(samples, source=self)

    def __getattr__(self, name: str):
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int):
        self.count += 1
        return self._source.read(index)


def versions(model: ir.Model):
    """Yield a copy for each matrix or filter, in which it is changed."""
    for name, value in model.graph.initializers.items():
        if value.dtype == ir.DataType.FLOAT and len(value.shape or ()) >= 2:
            copy = model.clone()
            weight = copy.graph.initializers[name]
            set_weight(weight, weight.const_value.numpy() * np.float32(0.75))
            yield name, copy


def apart(outputs, model: ir.Model, samples: Samples) -> float:
    session = Session(model, Runtime())
    expected = [session.run(feeds) for feeds in samples]
    found = [list(arrays) for arrays in outputs]
    assert [len(arrays) for arrays in found] == [len(arrays) for arrays in expected]
    pairs = [(a, b) for one, two in zip(found, expected, strict=True) for a, b in zip(one, two, strict=True)]
    pairs = [(a, b) for a, b in pairs if isinstance(b, np.ndarray)]
    assert pairs
    return max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in pairs)


def few(model: ir.Model, batch_size: int = 2) -> Samples:
    return builders.samples_of(model, count=6).with_batch_size(batch_size)


@pytest.mark.parametrize("name", sorted(builders.BUILDERS))
def test_changed_weights_give_what_the_whole_graph_gives(name):
    model = builders.BUILDERS[name]()
    samples = few(model, 1 if name == "runs_at_one_only" else 2)
    part = ChangedOutputs(model, samples)
    # Where a graph is cut decides where ONNX Runtime rounds to 16 bits.
    near = 2e-3 if "half" in name else 1e-4
    assert apart(part.original, model, samples) <= near
    for _, version in versions(model):
        assert apart(part.of(version), version, samples) <= near


def test_one_layer_in_int8_gives_what_the_whole_graph_gives():
    model = builders.BUILDERS["residual_cnn"]()
    samples = few(model)
    part = ChangedOutputs(model, samples)
    context = Context(target_of("x86-vnni"), samples)
    spec = QuantizeStatic(placement="all", min_sqnr_db=0)
    layers = [edit.target for edit in Pipeline((spec,)).run(model, context).steps[0].edits]
    for layer in layers:
        alone = replace(spec, exclude=tuple(other for other in layers if other != layer))
        version = Pipeline((alone,)).run(model, context).model
        assert apart(part.of(version), version, samples) <= 1e-4


def test_only_a_change_of_the_first_layer_reads_the_samples_again():
    model = builders.BUILDERS["residual_cnn"]()
    reads = Reads(few(model))
    part = ChangedOutputs(model, reads.samples)
    assert reads.count == 6
    found = {}
    for name, version in versions(model):
        before = reads.count
        list(part.of(version))
        found[name] = reads.count - before
    assert 6 in found.values()
    assert list(found.values()).count(0) > len(found) / 2


def test_an_equal_model_is_not_run():
    model = builders.BUILDERS["gemm_mlp"]()
    reads = Reads(few(model))
    part = ChangedOutputs(model, reads.samples)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(part.of(model.clone()), part.original, strict=True))
    assert reads.count == 6


def test_fewer_points_are_kept_where_memory_is_short():
    model = builders.BUILDERS["residual_cnn"]()
    samples = few(model)
    whole = ChangedOutputs(model, samples)
    size = sum(array.nbytes for arrays in whole._kept for array in arrays.values())
    some, none = ChangedOutputs(model, samples, size - 1), ChangedOutputs(model, samples, 0)
    assert len(whole._kept[0]) > len(some._kept[0]) > len(none._kept[0]) == 0
    assert len({tuple(arrays) for arrays in some._kept}) == 1
    for _, version in versions(model):
        assert apart(some.of(version), version, samples) <= 1e-4
        assert apart(none.of(version), version, samples) == 0


def test_kept_values_are_limited_by_the_size_of_the_model(monkeypatch):
    monkeypatch.setattr(changed, "LEAST_LIMIT_BYTES", 0)
    model = builders.BUILDERS["residual_cnn"]()
    samples = builders.samples_of(model, count=32)
    whole, some = (ChangedOutputs(model, samples, limit) for limit in (1 << 29, None))
    sizes = [sum(array.nbytes for arrays in one._kept for array in arrays.values()) for one in (whole, some)]
    assert sizes[1] <= 2 * weight_bytes(model) < sizes[0]


def with_unread_input() -> ir.Model:
    model = builders.BUILDERS["gemm_mlp"]()
    spare = ir.Value(name="spare", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", 2]))
    model.graph.inputs.append(spare)
    return model


def through_a_sequence() -> ir.Model:
    net = builders.Net(7)
    hidden = net.node("Relu", net.node("MatMul", "x", net.weight(8, 8)))
    parts = net.node("SplitToSequence", hidden, axis=1)
    joined = net.node("ConcatFromSequence", parts, axis=1)
    net.node("MatMul", joined, net.weight(8, 4), out="y")
    return net.model([builders.ROWS], [builders.CLASSES])


@pytest.mark.parametrize("make", [with_unread_input, through_a_sequence])
def test_unread_inputs_and_sequences_are_no_obstacle(make):
    model = make()
    samples = few(model)
    part = ChangedOutputs(model, samples)
    for name, version in versions(model):
        assert apart(part.of(version), version, samples) < 1e-5, name


def test_a_start_keeps_the_sizes_that_attention_needs():
    net = builders.Net(5)
    value, key, query = (net.node("MatMul", "x", net.weight(8, 8, name=name)) for name in ("v", "k", "q"))
    seen = net.node("Attention", query, key, value, q_num_heads=2, kv_num_heads=2)
    net.node("MatMul", seen, net.weight(8, 8), out="y")
    tokens = ("x", builders.F, ["batch", 5, 8])
    model = net.model([tokens], [("y", builders.F, ["batch", 5, 8])], opset=23, ir_version=11)
    samples = builders.samples_of(model, 5, 2)
    for name in "kqv":
        changed = model.clone()
        weight = changed.graph.initializers[name]
        set_weight(weight, weight.const_value.numpy() * np.float32(2))
        assert apart(ChangedOutputs(model, samples).of(changed), changed, samples) < 1e-5
