"""What a user is told to bring."""

from pathlib import Path

import pytest
from sample_signatures import DIGITS, IMAGES, PAIR, TABULAR, TEXT, VOICE, one

from onnxopt.model_file import Signature, TensorSpec
from onnxopt.samples import open_samples, schema_text

MODELS = [DIGITS, IMAGES, PAIR, TABULAR, TEXT, VOICE, one(2, 3), one(None, 1, dtype="str"), one("seq", "batch", 3)]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_example_makes_data_that_fits(model: Signature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = schema_text(model).partition("make one:\n")[2]
    exec("\n".join(line[2:] for line in code.splitlines()))
    samples = open_samples("samples.npz", model)
    assert len(samples) == 100
    assert sum(1 for _ in samples) > 0


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        (IMAGES, {"samples.npz", "samples.npy", "image folder"}),
        (TABULAR, {"samples.npz", "samples.npy", "table"}),
        (TEXT, {"samples.npz", "text table"}),
        (PAIR, {"samples.npz"}),
        (VOICE, {"samples.npz"}),
        (one(None, 16000), {"samples.npz", "samples.npy", "table", "sound folder"}),
    ],
)
def test_only_kinds_that_would_do_are_listed(model: Signature, kinds: set[str]) -> None:
    text = schema_text(model)
    known = ("samples.npz", "samples.npy", "image folder", "table", "sound folder", "text table")
    assert {kind for kind in known if f"\n  {kind} " in text} == kinds
    assert all(f"  {spec}\n" in text for spec in model.inputs)


def test_images_of_the_example_have_a_size_that_networks_take() -> None:
    assert "np.zeros((100, 3, 224, 224), 'float32')" in schema_text(one(None, 3, "h", "w"))


def test_states_are_said_to_be_made() -> None:
    state = TensorSpec("state", "float32", (2, "batch", 4))
    sound = Signature((TensorSpec("input", "float32", (None, 512)), state), ())
    text = schema_text(sound, {"state": "stateN"})
    assert "state takes stateN of the step before: `onnxopt data` makes them" in text
    assert "\n  sound folder " in text
    assert "\n  sound folder " not in schema_text(sound)
