"""A folder of several models is quantized as one: names stay, side files go along; it is whole or not there."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import onnxopt
from onnxopt.document import units
from onnxopt.errors import FileError, UsageError
from onnxopt.model_file import memory, save, save_together
from onnxopt.tasks.variants import folder as whole
from onnxopt.tasks.variants.folder import quantize_folder
from tests import builders
from tests.tasks.variants.published import encoder, pair, samples


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return an encoder and two decoders as optimum writes them, with configuration, tokenizer and other weights."""
    folder = tmp_path / "whisper"
    (folder / "onnx").mkdir(parents=True)
    (folder / "1_Pooling").mkdir()
    save(encoder(), folder / "onnx" / "encoder_model.onnx")
    save(pair(), folder / "onnx" / "decoder_model.onnx")
    save(builders.BUILDERS["if_branches"](), folder / "onnx" / "decoder_model_merged.onnx")
    save(encoder(), folder / "onnx" / "encoder_model_q4.onnx")
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / ".gitattributes").write_text("")
    return folder


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_names_stay_and_side_files_go_along(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    before = files_of(source)
    made = quantize_folder(source, out=out, target="x86-vnni")
    models = {f"onnx/{name}.onnx" for name in ("encoder_model", "decoder_model", "decoder_model_merged")}
    assert files_of(out) == models | {"config.json", "1_Pooling/config.json"}
    assert files_of(source) == before
    assert (out / "config.json").read_text() == '{"model_type": "whisper"}'
    assert {one.files[0] for one in made.made} == {out / name for name in models}
    assert all(path.exists() for one in made.made for path in one.files)
    assert set(made.copied) == {out / "config.json", out / "1_Pooling" / "config.json"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_every_model_is_quantized_and_runs(source: Path, tmp_path: Path) -> None:
    made = quantize_folder(source, out=tmp_path / "small", target="x86-vnni")
    edits = {one.source.name: len(one.optimized.steps[-1].edits) for one in made.made if one.source}
    assert edits["encoder_model.onnx"] >= 3
    assert edits["decoder_model.onnx"] == 3
    path = tmp_path / "small" / "onnx" / "encoder_model.onnx"
    assert path.stat().st_size < (source / "onnx" / "encoder_model.onnx").stat().st_size / 2
    outputs = [onnxruntime.InferenceSession(str(p / "onnx" / "encoder_model.onnx")).run(None, samples())[0]
               for p in (source, tmp_path / "small")]  # fmt: skip
    assert np.mean(outputs[0].argmax(1) == outputs[1].argmax(1)) > 0.9


def test_without_an_output_nothing_is_written(source: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    made = quantize_folder(source)
    assert (made.out, made.copied, len(made.made)) == (None, (), 3)
    assert set(tmp_path.rglob("*")) == before
    assert "Dry run" in made.document.blocks[1].lines[-1]


def test_an_error_in_the_middle_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "onnx" / "zzz.onnx").write_bytes(b"no model")
    with pytest.raises(onnxopt.ModelError, match="ONX301"):
        quantize_folder(source, out=tmp_path / "small")
    (source / "onnx" / "zzz.onnx").unlink()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole, "copy_files", full)
    with pytest.raises(FileError, match=r"ONX503.*No space left"):
        quantize_folder(source, out=tmp_path / "small")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whisper"]


def test_outputs_that_cannot_be_written_are_refused_first(source: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(FileError, match="ONX502"):
        quantize_folder(source, out=tmp_path / "there")
    with pytest.raises(FileError, match=r"ONX504.*inside the folder"):
        quantize_folder(source, out=source / "small")
    with pytest.raises(FileError, match=r"ONX503.*no folder"):
        quantize_folder(source, out=tmp_path / "none" / "small")
    with pytest.raises(UsageError, match="ONX102"):
        quantize_folder(source, per_chanel=False)
    for path in (source / "onnx").glob("*.onnx"):
        path.rename(path.with_name(f"{path.stem.removesuffix('_q4')}_q4.onnx"))
    with pytest.raises(FileError, match=r"ONX501.*no float32 model"):
        quantize_folder(source)


def test_a_link_out_of_the_folder_is_not_followed(source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("secret")
    (source / "tokenizer.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(FileError, match=r"ONX505.*tokenizer\.json.*outside"):
        quantize_folder(source, out=tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_large_models_keep_the_name_of_their_data(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", 10_000)
    (source / "onnx" / "encoder_model.onnx").unlink()
    save(encoder(), source / "onnx" / "encoder_model.onnx", data_name="encoder_model.onnx_data")
    made = quantize_folder(source, out=tmp_path / "small", target="x86-vnni")
    names = {file.name for one in made.made for file in one.files}
    assert {"encoder_model.onnx", "encoder_model.onnx_data"} <= names


def test_models_with_their_weights_in_one_file_have_them_in_one_again(tmp_path: Path) -> None:
    source, names = tmp_path / "both", ("one.onnx", "two.onnx")
    source.mkdir()
    save_together({name: encoder() for name in names}, source, "both.onnx_data",
                  provenance={name: {} for name in names}, proofs={})  # fmt: skip
    made = quantize_folder(source, out=tmp_path / "small", target="x86-vnni")
    written = sorted((tmp_path / "small").iterdir())
    assert [file.name for file in written] == ["both.onnx_data", *names]
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in (source, tmp_path / "small")]
    said = f"Together: {units.size(sizes[0])} before, {units.size(sizes[1])} after"
    assert made.document.blocks[1].lines[0].startswith(said)  # type: ignore[union-attr]
    for name in names:
        onnxruntime.InferenceSession(tmp_path / "small" / name)


def test_the_command_takes_a_folder_with_dynamic_quantization_only(source: Path, tmp_path: Path, capsys) -> None:
    from onnxopt.cli.entry import main

    out = tmp_path / "small"
    assert main(["quantize", str(source), "-o", str(out)]) == 2
    assert "ONX112" in capsys.readouterr().err
    words = ["quantize", str(source), "-o", str(out), "--mode", "dynamic", "--format", "json"]
    assert main([*words, "--data", "random"]) == 2
    assert main([*words, "--overwrite"]) == 2
    assert main([*words, "--dry-run"]) == 0
    assert not out.exists()
    capsys.readouterr()
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert {Path(model["model"]).name for model in found["models"]} == {
        "encoder_model.onnx", "decoder_model.onnx", "decoder_model_merged.onnx"
    }  # fmt: skip
    assert found["out"] == str(out)
    assert isinstance(onnxopt.quantize_folder(source), onnxopt.MadeFolder)
