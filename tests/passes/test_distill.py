import sys

import numpy as np
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import UsageError
from onnxopt.model_file import signature_of, to_bytes
from onnxopt.passes.distill import Distill
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import open_samples
from onnxopt.target import target_of
from tests import builders


def context(model, count=128):
    rng = np.random.default_rng(0)
    (spec,) = signature_of(model).inputs
    shape = [count, *(d if isinstance(d, int) else 4 for d in spec.shape[1:])]
    samples = open_samples({spec.name: rng.normal(size=shape).astype(np.float32)}, signature_of(model))
    return Context(target_of("x86-vnni"), samples, seed=1)


def test_it_recovers_what_pruning_lost():
    model = builders.BUILDERS["residual_cnn"]()
    passes = "prune-channels{ratio=0.5,round_to=1,protect=[],compensate=none},distill{steps=80,lr=0.01,batch_size=32}"
    done = Pipeline(parse(passes)).run(model, context(model))
    (edit,) = done.steps[1].edits
    assert "divergence from the teacher" in edit.action
    curve = done.steps[1].curve
    assert curve[0][0] == 0
    assert curve[-1][0] <= 80
    assert min(score for _, _, score in curve) < 0.7 * curve[0][2]


def test_a_student_that_needs_nothing_is_left_alone():
    model = builders.BUILDERS["gemm_mlp"]()
    done = Pipeline((Distill(steps=3),)).run(model, context(model))
    (skip,) = done.steps[0].skipped
    assert skip.reason == "its outputs equal the teacher's already"
    assert to_bytes(done.model) == to_bytes(model)


def test_what_cannot_be_trained_says_so():
    model = builders.BUILDERS["already_quantized"]()
    samples = builders.samples_of(model)
    done = Pipeline((Distill(steps=1),)).run(model, Context(target_of("x86-vnni"), samples))
    (skip,) = done.steps[0].skipped
    assert "no float weights" in skip.reason


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"losses": ("respnse",)}, "ONX101"),
        ({"losses": ()}, "ONX101"),
        ({"losses": ("response", "response")}, "ONX101"),
        ({"augment": ("rotate",)}, "ONX101"),
        ({"losses": ("response",), "weights": (1.0, 2.0)}, "ONX101"),
        ({"alpha": 0.5, "augment": ("mixup",)}, "ONX109"),
    ],
)
def test_options_that_make_no_sense(options, code):
    with pytest.raises(UsageError, match=code):
        Distill(**options)


def test_without_torch_one_line_names_the_extra(monkeypatch):
    for name in [n for n in sys.modules if n == "torch" or n.startswith(("torch.", "onnxopt.training"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    model = builders.BUILDERS["gemm_mlp"]()
    with pytest.raises(UsageError, match=r"ONX108.*onnxopt\[train\]"):
        Pipeline((Distill(steps=1),)).run(model, context(model))
