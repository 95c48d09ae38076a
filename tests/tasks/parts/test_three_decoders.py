"""A folder with a merged decoder and its two parts, as transformers.js publishes it: one decoder, in three files."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import onnxopt
from onnxopt.measure.generation.chain import TextStart
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import load, save
from onnxopt.tasks.parts import bits
from onnxopt.tasks.parts.forms import FORMS
from onnxopt.tasks.parts.optimize import optimize_parts
from onnxopt.tasks.parts.roles import parts_of
from onnxopt.tasks.variants.folder import quantize_folder
from tests.tasks.parts.merged import merged
from tests.tasks.parts.seq2seq import folder_of, sentences
from tests.tasks.parts.test_bits import stored
from tests.tasks.parts.test_merged import kernels
from tests.tasks.parts.test_parts import clock

__all__ = ["clock"]
MERGED, PAIR = "decoder_model_merged", ("decoder_model", "decoder_with_past_model")
FAST = {"goal": "size", "latency_s": 0.05, "new_tokens": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = folder_of(tmp_path / "published")
    save(merged(), made / "onnx" / f"{MERGED}.onnx")
    return made


def read(*files: Path) -> np.ndarray:
    """Return the logits behind four tokens that an encoder and decoders read one by one."""
    parts, ids = parts_of(files[0].parent, files), sentences(1)["input_ids"]
    walk, _ = parts.chain.load(Runtime())(
        TextStart({"input_ids": ids, "attention_mask": np.ones_like(ids)}, np.array([3]))
    )
    return np.concatenate([walk.feed(np.array([token])) for token in (3, 5, 7, 9)])


def both_ways(place: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what the merged decoder of a folder reads, and what the pair does."""
    encoder, one, first, later = (place / f"{name}.onnx" for name in ("encoder_model", MERGED, *PAIR))
    return read(encoder, one), read(encoder, first, later)


def branches(model: ir.Model) -> list[ir.Graph]:
    """Return the branches for the first and for later tokens."""
    (around,) = (node for node in model.graph if node.op_type == "If")
    return [around.attributes[name].as_graph() for name in ("else_branch", "then_branch")]


def test_the_merged_decoder_is_read_as_programs_do(folder: Path) -> None:
    models = sorted((folder / "onnx").glob("*.onnx"))
    parts = parts_of(folder, models)
    assert [path.stem for path in parts.decoders] == [MERGED, *PAIR]
    assert parts.chain.later is None
    np.testing.assert_array_equal(*both_ways(folder / "onnx"))


def test_all_three_files_get_the_form_that_is_chosen(folder: Path, tmp_path: Path) -> None:
    made = optimize_parts(folder, sentences(40), out=tmp_path / "run", max_drop="50pp", **FAST)  # type: ignore[arg-type]
    assert {one.form.name for one in made.found.alone if one.form.part == "decoder"} == set(FORMS)
    assert made.found.left == {}
    assert made.out is not None
    before, after = (both_ways(place / "onnx")[0] for place in (folder, made.out))
    assert np.abs(before - after).max() > 0
    np.testing.assert_allclose(*both_ways(made.out / "onnx"), atol=1e-5)
    assert {path.stem for path in (made.out / "onnx").glob("*.onnx")} == {"encoder_model", MERGED, *PAIR}


def test_a_matrix_has_the_same_numbers_in_all_three(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bits, "has_matrices", lambda _: True)
    seen, plain = list[list[ir.Model]](), bits.make_form

    def look(part, files, name, passes, **rest):
        made = plain(part, files, name, passes, **rest)
        if part == "decoder":
            seen.append([load(made.files[path]) for path in files])
        return made

    monkeypatch.setattr(bits, "make_form", look)
    optimize_parts(folder, sentences(40), out=tmp_path / "run", max_drop=4e-5, **FAST)  # type: ignore[arg-type]
    assert any(len({*kernels(models[0])}) > 1 for models in seen)
    for whole, *pair in seen:
        for branch, alone in zip(branches(whole), pair, strict=True):
            assert stored(branch) == stored(alone.graph)


def test_the_folder_is_quantized_and_audited_file_by_file(folder: Path, tmp_path: Path) -> None:
    made = quantize_folder(folder, out=tmp_path / "int8")
    assert {one.files[0].stem for one in made.made} == {"encoder_model", MERGED, *PAIR}
    assert all(step.edits for one in made.made for step in one.optimized.steps[-1:])
    np.testing.assert_allclose(*both_ways(tmp_path / "int8" / "onnx"), atol=1e-5)
    for path in sorted((tmp_path / "int8" / "onnx").glob("*.onnx")):
        (folder / "onnx" / f"{path.stem}_quantized.onnx").write_bytes(path.read_bytes())
    found = onnxopt.audit(folder)
    assert found.passed
    assert len(found.files) == 8


def test_the_variants_of_each_file_are_beside_it(folder: Path) -> None:
    for name in (MERGED, *PAIR):
        made = onnxopt.variants(folder / "onnx" / f"{name}.onnx", "transformers.js", only=["q8"], overwrite=True)
        assert [file.name for one in made.made for file in one.files] == [f"{name}_quantized.onnx"]
