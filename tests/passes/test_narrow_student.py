import numpy as np
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import UsageError
from onnxopt.graph.layers import anatomy_of
from onnxopt.model_file import signature_of, to_bytes
from onnxopt.passes.narrow_student import NarrowStudent
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import open_samples
from onnxopt.target import target_of
from tests import builders

TARGET = target_of("x86-vnni")


def weights(model):
    return {n: v.const_value.numpy() for n, v in model.graph.initializers.items() if len(v.shape) == 4}


def test_widths_are_halved_and_weights_are_new():
    model = builders.BUILDERS["residual_cnn"]()
    done = Pipeline((NarrowStudent(width=0.5),)).run(model, Context(TARGET, seed=1))
    before, after = weights(model), weights(done.model)
    assert [w.shape for w in after.values()] == [(4, 3, 3, 3), (4, 4, 3, 3), (4, 4, 3, 3)]
    for name, array in after.items():
        # Drawn around 0 with the variance of He et al.: 36 and more values are that close to it.
        assert abs(array.std() / np.sqrt(2 / np.prod(array.shape[1:])) - 1) < 0.3
        assert not np.isin(array, before[name]).any()
    for node in done.model.graph:
        if node.op_type == "BatchNormalization":
            assert [float(v.const_value.numpy().mean()) for v in node.inputs[1:]] == [1, 0, 0, 1]


@pytest.mark.parametrize("name", ["transformer_17", "lstm", "gru", "depthwise_separable", "gemm_mlp"])
def test_other_architectures_get_smaller_and_run(name):
    model = builders.BUILDERS[name]()
    done = Pipeline((NarrowStudent(width=0.5),)).run(model, Context(TARGET))
    assert anatomy_of(done.model).parameters < 0.75 * anatomy_of(model).parameters
    feeds = builders.feeds_of(model)
    (found, *_), (wanted, *_) = (builders.run(m, feeds) for m in (done.model, model))
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()


def test_full_width_only_forgets_and_excluded_layers_keep_theirs():
    model = builders.BUILDERS["residual_cnn"]()
    context = Context(TARGET, seed=1)
    full = Pipeline((NarrowStudent(width=1),)).run(model, context).model
    assert [w.shape for w in weights(full).values()] == [w.shape for w in weights(model).values()]
    assert all(not np.array_equal(w, weights(model)[n]) for n, w in weights(full).items())
    names = tuple(n.name for n in model.graph if n.op_type == "Conv")
    done = Pipeline((NarrowStudent(exclude=names),)).run(model, context)
    shapes = {n: w.shape for n, w in weights(model).items()}
    assert {n: w.shape for n, w in weights(done.model).items()} == shapes
    with pytest.raises(UsageError, match="ONX102"):
        Pipeline((NarrowStudent(exclude=("nowhere",)),)).run(model, context)
    other = Pipeline((NarrowStudent(width=1),)).run(model, Context(TARGET, seed=2)).model
    assert to_bytes(other) != to_bytes(full)


def test_what_has_no_layers_is_left_alone():
    model = builders.BUILDERS["nothing_to_do"]()
    done = Pipeline((NarrowStudent(),)).run(model, Context(TARGET))
    assert not done.steps[0].edits
    assert done.steps[0].skipped
    assert to_bytes(done.model) == to_bytes(model)


def test_a_narrow_student_learns_from_its_teacher():
    model = builders.BUILDERS["residual_cnn"]()
    (spec,) = signature_of(model).inputs
    shape = [128, *(d if isinstance(d, int) else 8 for d in spec.shape[1:])]
    data = {spec.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    samples = open_samples(data, signature_of(model))
    passes = "narrow-student{width=0.5},distill{steps=80,lr=0.01,batch_size=32,batch_norm=trained}"
    done = Pipeline(parse(passes)).run(model, Context(TARGET, samples, seed=1))
    curve = done.steps[1].curve
    assert min(score for _, _, score in curve) < 0.7 * curve[0][2]
