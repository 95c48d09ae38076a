"""`distill` and `finetune` have every option of their pass."""

import pytest

from onnxopt.options.declared import declared_options
from onnxopt.passes.distill import Distill
from onnxopt.passes.finetune import Finetune

SHARED = {
    "epochs": ("2.5", 2.5),
    "steps": ("7", 7),
    "batch-size": ("5", 5),
    "lr": ("0.01", 0.01),
    "held-out": ("0.25", 0.25),
    "device": ("cpu:0", "cpu:0"),
    "optimizer": ("sgd", "sgd"),
    "weight-decay": ("0.125", 0.125),
    "augment": ("flip,crop", ("flip", "crop")),
    "batch-norm": ("trained", "trained"),
    "precision": ("bfloat16", "bfloat16"),
    "checkpoint": ("c.pt", "c.pt"),
}
OWN = {
    Distill: {
        "losses": ("response,feature", ("response", "feature")),
        "weights": ("1,0.5", (1.0, 0.5)),
        "temperature": ("2", 2.0),
        "alpha": ("0.5", 0.5),
        "features": ("a,b", ("a", "b")),
    },
    Finetune: {"loss": ("mse", "mse"), "output": ("logits", "logits")},
}


@pytest.fixture
def applied(monkeypatch):
    """Catch the pass instead of training."""
    seen = []

    def apply(_, passes, **__):
        seen.extend(passes)
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxopt.tasks.apply.apply", apply)
    return seen


def models(kind, mlp):
    return [mlp, mlp] if kind is Distill else [mlp]


@pytest.mark.parametrize("kind", [Distill, Finetune])
def test_every_option_of_the_pass_reaches_it(cli, mlp, tmp_path, applied, kind):
    options = SHARED | OWN[kind]
    assert {o.word for o in declared_options(kind)} == set(options)
    line = [word for name, (text, _) in options.items() for word in (f"--{name}", text)]
    cli(kind.name, *models(kind, mlp), "--data", "digits", "-o", tmp_path / "x.onnx", *line)
    assert applied == [kind(**{o.field: options[o.word][1] for o in declared_options(kind)})]


@pytest.mark.parametrize("kind", [Distill, Finetune])
def test_the_defaults_are_those_of_the_pass(cli, mlp, tmp_path, applied, kind):
    cli(kind.name, *models(kind, mlp), "--data", "digits", "-o", tmp_path / "x.onnx")
    assert applied == [kind()]


def test_a_configuration_file_has_the_same_options(cli, mlp, tmp_path, applied):
    config = tmp_path / "c.toml"
    config.write_text('[distill]\nlosses = ["response", "relation"]\nweights = [1, 2.5]\nheld-out = 0.5\n')
    cli("distill", mlp, mlp, "--data", "digits", "-o", tmp_path / "x.onnx", "--config", config)
    assert applied == [Distill(losses=("response", "relation"), weights=(1.0, 2.5), held_out=0.5)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--epochs", "0"], "ONX101: an option of pass distill has a wrong value [epochs]"),
        (["--weights", "1,x"], "ONX101: invalid option value [--weights]: '1,x' is not a list of numbers"),
        (["--optimizer", "adam"], "ONX101: invalid option value [--optimizer]: 'adam' is not one of 'adamw', 'sgd'."),
        (["--optimiser", "sgd"], "ONX102: unknown option [--optimiser]. Did you mean --optimizer?"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(cli, mlp, tmp_path, applied, line, said):
    ended = cli("distill", mlp, mlp, "--data", "digits", "-o", tmp_path / "x.onnx", *line)
    assert ended.code == 2
    assert ended.err.startswith(said)
    assert not applied
