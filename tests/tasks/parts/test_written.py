"""Decoders that have their weights in one file have them in one file again."""

from pathlib import Path

import numpy as np
import pytest

from onnxopt.catalog import format_passes
from onnxopt.model_file import load, save, save_together, shared_data, size_together
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.pipeline import Context
from onnxopt.target import target_of
from onnxopt.tasks.parts.forms import FORMS, PartForm, make_form
from onnxopt.tasks.parts.optimize import optimize_parts
from onnxopt.tasks.parts.written import write_parts
from tests.tasks.parts.seq2seq import decoder, encoder, sentences
from tests.tasks.parts.test_parts import by_hand

CONTEXT = Context(target_of("auto"))
NAMES = ("decoder_model.onnx", "decoder_with_past_model.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a folder whose decoders have their weights in one file."""
    place = tmp_path / "mini" / "onnx"
    place.mkdir(parents=True)
    save(encoder(), place / "encoder_model.onnx")
    both = {name: decoder(past="past" in name) for name in NAMES}
    save_together(both, place, "decoder.onnx_data", provenance={key: {} for key in NAMES}, proofs={})
    return place.parent


def decoders(folder: Path) -> list[Path]:
    return [folder / "onnx" / name for name in NAMES]


def answers(folder: Path) -> np.ndarray:
    return by_hand(folder, sentences(1)["input_ids"], [3, 5, 7])


def formed(folder: Path, passes: str | dict[Path, str]) -> PartForm:
    made = make_form("decoder", decoders(folder), "small", passes, place=folder.parent / "made", context=CONTEXT)
    assert isinstance(made, PartForm), made
    return made


def test_a_form_of_both_has_its_weights_in_one_file(folder: Path) -> None:
    made = formed(folder, FORMS["4 bits"])
    files = list(made.files.values())
    assert (shared_data(files) or Path()).name == "decoder.onnx_data"
    assert made.size_bytes == size_together(files) < 0.5 * size_together(decoders(folder))
    out = write_parts(folder, folder.parent / "out", made.files)
    assert sorted(path.name for path in (out / "onnx").iterdir()) == [
        "decoder.onnx_data", *NAMES, "encoder_model.onnx"]  # fmt: skip
    assert size_together(decoders(out)) == made.size_bytes
    assert 0 < np.abs(answers(out) - answers(folder)).max() < 1


def test_files_that_stay_are_copied_with_their_data(folder: Path) -> None:
    out = write_parts(folder, folder.parent / "out", {})
    for path in (folder / "onnx").iterdir():
        assert (out / "onnx" / path.name).read_bytes() == path.read_bytes()


def test_one_file_that_changes_leaves_the_data_of_the_other(folder: Path) -> None:
    first, later = decoders(folder)
    head = next(node.name or "" for node in load(first).graph if node.op_type == "MatMul")
    alone = format_passes((QuantizeWeights(bits=4, method="hqq", exclude=(head,)),))
    made = formed(folder, {first: alone, later: "simplify"})
    assert made.files[later] == later
    assert made.size_bytes == size_together(made.files.values())
    out = write_parts(folder, folder.parent / "out", made.files)
    data = "decoder.onnx_data"
    assert (out / "onnx" / data).read_bytes() == (folder / "onnx" / data).read_bytes()
    assert 0 < np.abs(answers(out) - answers(folder)).max() < 1


def test_the_gain_is_that_of_the_folder(folder: Path) -> None:
    out = folder.parent / "run"
    made = optimize_parts(folder, sentences(60), out=out, goal="size", max_drop="50pp", latency_s=0.05, new_tokens=4)
    eight = next(one for one in made.found.alone if (one.form.part, one.form.name) == ("decoder", "8 bits"))
    assert eight.saved_bytes == size_together(decoders(folder)) - formed(folder, FORMS["8 bits"]).size_bytes
    if made.out is not None:
        winner = made.found.winner
        assert winner is not None
        assert sum(file.stat().st_size for file in (made.out / "onnx").iterdir()) == winner.size_bytes
