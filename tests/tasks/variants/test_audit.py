"""What somebody published: good files are called good, and faults that published files have are found."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import onnxopt
from onnxopt.errors import DataError, FileError, UsageError
from onnxopt.model_file import memory, save
from onnxopt.tasks.variants.audit import Audit, audit
from onnxopt.tasks.variants.conventions import LABELS
from onnxopt.tasks.variants.verdict import JudgedFile, Standing
from tests.tasks.variants.published import decoder, encoder, half, made, pair, published, samples, with_weight

INT8 = "quantize-dynamic{weight_type=uint8,reduce_range=no}"


def of(found: Audit, name: str) -> JudgedFile:
    return next(one for one in found.files if one.path.name == name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return published(tmp_path / "repo")


def test_a_good_file_is_good_with_its_size_and_an_interval(folder: Path) -> None:
    found = audit(folder, samples())
    good = of(found, "model_int8.onnx")
    assert (found.passed, good.standing, good.label, good.reason) == (True, Standing.GOOD, "int8", "")
    sizes = [(folder / "onnx" / name).stat().st_size for name in ("model.onnx", "model_int8.onnx")]
    assert good.ratio == pytest.approx(sizes[0] / sizes[1])
    assert good.score is not None
    assert 0.9 < good.score.interval.low < good.score.value <= good.score.interval.high <= 1
    assert of(found, "model.onnx").standing is Standing.BASELINE


FAULTS = {
    "a cut file": (lambda path: path.write_bytes(path.read_bytes()[:900]), False, "does not load"),
    "noise for a layer": (
        lambda path: save(
            _with("head", lambda a: np.random.RandomState(3).standard_normal(a.shape) / 8), path, overwrite=True
        ),
        True,
        "near chance",
    ),
    "the opposite answers": (lambda path: save(encoder(mirrored=True), path, overwrite=True), True, "near chance"),
    "NaN": (lambda path: save(_with("up", lambda a: a * np.nan), path, overwrite=True), True, "NaN or infinite values"),
    "another model": (lambda path: save(pair(), path, overwrite=True), True, "outputs"),
    "a constant": (lambda path: save(_with("head", np.zeros_like), path, overwrite=True), True, "near chance"),
}


def _with(name, change):
    return with_weight(encoder(), name, change)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("given", [False, True])
def test_a_broken_file_is_found(folder: Path, fault: str, given: bool) -> None:
    damage, loads, reason = FAULTS[fault]
    damage(folder / "onnx" / "model_int8.onnx")
    found = audit(folder, samples() if given else None)
    broken = of(found, "model_int8.onnx")
    assert (found.passed, broken.standing, broken.loads) == (False, Standing.BROKEN, loads)
    assert reason in broken.reason
    assert f"model_int8.onnx is broken: {broken.reason}." in "\n".join(found.document.blocks[1].lines)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("passes", [INT8, "quantize-weights{bits=8,method=rtn,block=32}"])
def test_a_quantized_file_is_no_float32_file(tmp_path: Path, passes: str, beside: bool) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    onnxopt.apply(encoder(), passes, out=repo / "model.onnx")
    if beside:
        save(encoder(), repo / "model_fp16.onnx")
    found = audit(repo, samples())
    assert {one.standing for one in found.files} == {Standing.UNSURE}
    (own,) = (one for one in found.files if one.path.name == "model.onnx")
    assert (own.label, own.loads, found.passed) == ("quantized", True, True)
    assert "--baseline" in own.reason
    save(encoder(), tmp_path / "float.onnx")
    again = audit(repo, samples(), baseline=tmp_path / "float.onnx")
    own = of(again, "model.onnx")
    assert (own.label, own.standing in (Standing.GOOD, Standing.OVER)) == ("quantized", True)
    assert own.score is not None
    assert own.score.value > 0.9
    assert of(again, "float.onnx").standing is Standing.BASELINE


def test_swapped_outputs_are_not_called_good(tmp_path: Path) -> None:
    save(pair(), tmp_path / "model.onnx")
    save(pair(swapped=True), tmp_path / "model_fp16.onnx")
    save(made(INT8, pair), tmp_path / "model_quantized.onnx")
    found = audit(tmp_path, max_drop="10pp")
    assert of(found, "model_fp16.onnx").broken
    assert of(found, "model_quantized.onnx").standing is Standing.GOOD


def test_swapped_columns_are_not_called_good(folder: Path) -> None:
    save(_with("head", lambda a: a[:, ::-1]), folder / "onnx" / "model_int8.onnx", overwrite=True)
    assert of(audit(folder, samples()), "model_int8.onnx").broken


def test_a_file_that_only_loses_more_than_allowed_is_not_broken(folder: Path) -> None:
    save(made("quantize-weights{bits=4,method=rtn}"), folder / "onnx" / "model_q4.onnx")
    found = audit(folder, samples(), max_drop="0pp")
    over = of(found, "model_q4.onnx")
    assert (found.passed, over.standing) == (True, Standing.OVER)
    assert over.reason.startswith("loses ")
    assert of(audit(folder, samples(), max_drop="50pp"), "model_q4.onnx").standing is Standing.GOOD


def test_data_that_all_get_one_answer_prove_nothing(folder: Path) -> None:
    alike = {name: np.repeat(array[:1], 40, axis=0) for name, array in samples().items()}
    save(_with("head", lambda a: a + 3), folder / "onnx" / "model_q4.onnx")
    unsure = of(audit(folder, alike), "model_q4.onnx")
    assert unsure.standing is Standing.UNSURE
    assert "give samples" in unsure.reason


def test_a_baseline_that_does_not_load_is_broken_and_others_are_still_tried(folder: Path) -> None:
    (folder / "onnx" / "model.onnx").write_bytes(b"")
    found = audit(folder)
    assert of(found, "model.onnx").broken
    other = of(found, "model_int8.onnx")
    assert (other.loads, other.standing, found.passed) == (True, Standing.UNSURE, False)


def test_missing_external_data_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(memory, "EXTERNAL_ABOVE_BYTES", 10_000)
        save(encoder(), folder / "onnx" / "model_fp16.onnx")
    assert of(audit(folder), "model_fp16.onnx").score is not None
    (folder / "onnx" / "model_fp16.onnx.data").unlink()
    missing = of(audit(folder), "model_fp16.onnx")
    assert missing.broken
    assert "model_fp16.onnx.data" in missing.reason or "needs" in missing.reason


def test_a_file_that_takes_float16_is_fed_it(tmp_path: Path) -> None:
    save(half(wide=True), tmp_path / "model.onnx")
    save(half(wide=False), tmp_path / "model_fp16.onnx")
    assert of(audit(tmp_path), "model_fp16.onnx").standing is Standing.GOOD


def test_every_convention_is_read_by_its_names(tmp_path: Path) -> None:
    names = [f"{base}{ending}" for base in ("model", "decoder_model_merged") for ending in ("", *LABELS)]
    for name in names:
        save(pair(), tmp_path / f"{name}.onnx")
    save(pair(), tmp_path / "lonely_q4.onnx")
    found = audit(tmp_path, limit=4)
    kinds = {one.path.stem: (one.label, one.standing) for one in found.files}
    assert {name for name, (_, standing) in kinds.items() if standing is Standing.BASELINE} == {
        "model",
        "decoder_model_merged",
    }
    expected = {"_quantized": "q8", "_q4f16": "q4f16", "_O4": "O4", "_quint8_avx2": "quint8 avx2"}
    assert {ending: kinds[f"model{ending}"][0] for ending in expected} == expected
    assert kinds["model_qint8_avx512_vnni"] == ("qint8 avx512_vnni", Standing.GOOD)
    assert kinds["lonely_q4"] == ("q4", Standing.UNSURE)
    assert len(kinds) == len(names) + 1


def test_a_baseline_elsewhere_can_be_named(tmp_path: Path) -> None:
    save(encoder(), tmp_path / "full.onnx")
    save(made(INT8), tmp_path / "repo_model_int8.onnx")
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo_model_int8.onnx").rename(tmp_path / "repo" / "model_int8.onnx")
    assert of(audit(tmp_path / "repo"), "model_int8.onnx").standing is Standing.UNSURE
    found = audit(tmp_path / "repo", samples(), baseline=tmp_path / "full.onnx")
    assert of(found, "model_int8.onnx").standing is Standing.GOOD
    with pytest.raises(FileError, match="ONX501"):
        audit(tmp_path / "repo", baseline=tmp_path / "none.onnx")


def test_a_folder_of_onnxruntime_genai_is_read_by_its_configuration(tmp_path: Path) -> None:
    def config(place: Path, name: str) -> None:
        place.mkdir(parents=True, exist_ok=True)
        (place / "genai_config.json").write_text(json.dumps({"model": {"type": "x", "decoder": {"filename": name}}}))

    config(tmp_path, "model.onnx")
    save(encoder(), tmp_path / "model.onnx")
    config(tmp_path / "cpu_and_mobile" / "cpu-int4", "model.onnx")
    save(made(INT8), tmp_path / "cpu_and_mobile" / "cpu-int4" / "model.onnx")
    config(tmp_path / "cuda", "gone.onnx")
    config(tmp_path / "odd", "../model.onnx")
    found = audit(tmp_path, samples())
    kinds = {one.path.relative_to(tmp_path).as_posix(): (one.label, one.standing) for one in found.files}
    assert kinds == {
        "model.onnx": ("", Standing.BASELINE),
        "cpu_and_mobile/cpu-int4/model.onnx": ("cpu-int4", Standing.GOOD),
        "cuda/gone.onnx": ("cuda", Standing.BROKEN),
    }


def test_data_of_one_model_of_the_folder_leaves_the_others_to_made_up_inputs(folder: Path) -> None:
    save(pair(), folder / "onnx" / "other.onnx")
    save(made(INT8, pair), folder / "onnx" / "other_int8.onnx")
    found = audit(folder, samples(), max_drop="10pp")
    text = "\n".join(found.document.blocks[1].lines)
    assert "onnx/other.onnx: Judged as regression" in text
    assert "64 made-up inputs" in text
    assert {one.standing for one in found.files} == {Standing.BASELINE, Standing.GOOD}
    (folder / "onnx" / "other.onnx").unlink()
    (folder / "onnx" / "other_int8.onnx").unlink()
    with pytest.raises(DataError, match="ONX202"):
        audit(folder, {"x": np.zeros((4, 8), np.float32)})


def test_a_decoder_with_a_cache_is_run_with_an_empty_one(tmp_path: Path) -> None:
    save(decoder(), tmp_path / "decoder_with_past_model.onnx")
    save(made(INT8, decoder), tmp_path / "decoder_with_past_model_int8.onnx")
    save(made(INT8, encoder), tmp_path / "decoder_with_past_model_q4.onnx")
    found = audit(tmp_path, max_drop="20pp")
    assert of(found, "decoder_with_past_model_int8.onnx").standing is Standing.GOOD
    assert of(found, "decoder_with_past_model_q4.onnx").broken


def test_pipes_folders_and_unfinished_files_are_no_models(folder: Path) -> None:
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "onnx" / "model_q4.onnx")
    (folder / "onnx" / "model_fp16.onnx").mkdir()
    (folder / "onnx" / ".model_uint8.onnx").write_bytes(b"")
    assert sorted(one.path.name for one in audit(folder, limit=4).files) == ["model.onnx", "model_int8.onnx"]


def test_folders_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"ONX501.*no \.onnx file"):
        audit(tmp_path)
    with pytest.raises(FileError, match=r"ONX501.*does not exist"):
        audit(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"ONX505.*not a folder"):
        audit(tmp_path / "file")
    with pytest.raises(UsageError, match="ONX101"):
        audit(tmp_path, max_drop="much")


def test_the_public_name_is_this_call(folder: Path) -> None:
    found = onnxopt.audit(folder, limit=8)
    assert isinstance(found, onnxopt.Audit)
    assert "<table" in found._repr_html_()
    assert json.dumps(found.document.data["files"])
