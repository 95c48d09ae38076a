"""Models learn from labels."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from onnxopt.catalog import parse
from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import signature_of, to_bytes
from onnxopt.passes.finetune import Finetune
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import Samples, open_samples
from onnxopt.target import target_of
from onnxopt.training.finetune import FineTuning, finetune
from onnxopt.training.label_loss import label_loss
from onnxopt.training.schedule import Schedule
from tests import builders

FAST = Schedule(1, batch_size=16, lr=1e-2, evaluations=5, patience=9)
COUNT = 128


def labelled(model: ir.Model, labels: str | None = "classes") -> Samples:
    """Return noise with labels that follow from it: the sign of a mean, as a class or as numbers."""
    rng = np.random.default_rng(0)
    (spec,) = signature_of(model).inputs
    shape = [COUNT, *(d if isinstance(d, int) else 4 for d in spec.shape[1:])]
    array = rng.normal(size=shape).astype(np.float32) + rng.choice([-1, 1], (COUNT, *[1] * (len(shape) - 1)))
    means = array.reshape(COUNT, -1).mean(1)
    given = {"classes": (means > 0).astype(np.int64), "numbers": means.astype(np.float32), None: None}[labels]
    return open_samples({spec.name: array.astype(np.float32)}, signature_of(model), labels=given)


def accuracy(model: ir.Model, samples: Samples) -> float:
    found = [builders.run(model, dict(feeds))[0].reshape(len(next(iter(feeds.values()))), -1) for feeds in samples]
    return float((np.concatenate(found).argmax(1) == samples.labels).mean())


@pytest.mark.parametrize("name", ["gemm_mlp", "residual_cnn"])
def test_a_model_learns_classes(name):
    model = builders.BUILDERS[name]()
    samples = labelled(model)
    before = to_bytes(model)
    done = finetune(model, samples, FineTuning(steps=80, schedule=FAST))
    assert done.trained is not None
    assert done.trained.after < 0.5 * done.trained.before
    assert accuracy(done.model, samples) > max(0.9, accuracy(model, samples))
    assert to_bytes(model) == before
    assert [n.op_type for n in done.model.graph] == [n.op_type for n in model.graph]


def test_every_loss_is_what_it_says():
    model = builders.BUILDERS["gemm_mlp"]()
    name = model.graph.outputs[0].name
    found = {name: torch.tensor([[2.0, -1.0], [0.5, 0.25]])}
    classes, numbers = np.array([0, 1]), np.array([[1.0, 0.0], [0.0, 1.0]])
    softmax = torch.log_softmax(found[name], 1)
    entropy = -(softmax[0, 0] + softmax[1, 1]) / 2
    squared = np.mean((found[name].numpy() - numbers) ** 2)
    chance = torch.sigmoid(found[name]).numpy()
    binary = -np.mean(numbers * np.log(chance) + (1 - numbers) * np.log(1 - chance))
    for kind, labels, wanted in [
        ("auto", classes, entropy),
        ("cross-entropy", classes, entropy),
        ("auto", numbers, squared),
        ("mse", numbers, squared),
        ("bce", numbers, binary),
    ]:
        assert float(label_loss(kind, model, name)(found, labels)) == pytest.approx(float(wanted), rel=1e-5)


def test_a_loss_of_the_user(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "def loss(outputs, labels):\n    (found,) = outputs.values()\n"
        "    return (found.mean(1) - labels).abs().mean()\n"
        "def number(outputs, labels):\n    return 1.0\n"
        "def broken(outputs, labels):\n    raise KeyError('scores')\n"
    )
    model = builders.BUILDERS["gemm_mlp"]()
    samples = labelled(model, "numbers")
    done = finetune(model, samples, FineTuning(steps=80, schedule=FAST, loss=f"{file}:loss"))
    assert done.trained is not None
    assert done.trained.after < 0.5 * done.trained.before
    for function, why in {"number": "no tensor", "broken": "KeyError", "missing": "nothing of this name"}.items():
        with pytest.raises(UsageError, match=f"ONX107.*{why}"):
            finetune(model, samples, FineTuning(steps=1, schedule=FAST, loss=f"{file}:{function}"))
    with pytest.raises(UsageError, match=r"ONX107.*file does not exist"):
        finetune(model, samples, FineTuning(steps=1, loss=f"{tmp_path / 'no.py'}:loss"))


@pytest.mark.parametrize(
    ("options", "labels", "error"),
    [
        ({"loss": "cross-entropy"}, "numbers", DataError),
        ({"output": "nowhere"}, "classes", UsageError),
        ({"loss": "mse"}, "classes", DataError),
        ({}, None, DataError),
    ],
)
def test_what_does_not_fit_is_refused(options, labels, error):
    model = builders.BUILDERS["gemm_mlp"]()
    with pytest.raises(error, match="ONX"):
        finetune(model, labelled(model, labels), FineTuning(steps=1, schedule=FAST, **options))


def test_the_pass_tells_the_loss_and_keeps_no_harm():
    model = builders.BUILDERS["residual_cnn"]()
    context = Context(target_of("x86-vnni"), labelled(model), seed=1)
    done = Pipeline(parse("finetune{steps=40,lr=0.01,batch_size=16}")).run(model, context)
    (edit,) = done.steps[0].edits
    assert "learned from labels" in edit.action
    assert done.steps[0].curve[0][0] == 0
    harmful = Pipeline(parse("finetune{steps=4,lr=1000,batch_size=16}")).run(model, context)
    assert "did not help" in harmful.steps[0].skipped[0].reason
    assert to_bytes(harmful.model) == to_bytes(model)
    unlabelled = Pipeline((Finetune(),)).run(model, Context(target_of("x86-vnni"), labelled(model, None)))
    assert "no labels" in unlabelled.steps[0].skipped[0].reason


@pytest.mark.parametrize(
    ("options", "code"),
    [({"loss": "mean"}, "ONX101"), ({"augment": ("mixup",)}, "ONX109"), ({"augment": ("turn",)}, "ONX101")],
)
def test_options_that_make_no_sense(options, code):
    with pytest.raises(UsageError, match=code):
        Finetune(**options)
