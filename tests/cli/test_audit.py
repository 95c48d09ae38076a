import json

from tests.tasks.variants.published import published


def test_the_exit_code_says_whether_a_file_is_broken(cli, tmp_path) -> None:
    folder = published(tmp_path / "repo")
    ended = cli("audit", folder, "--limit", 16, "--max-drop", "50pp")
    assert ended.code == 0
    assert "model_int8.onnx" in ended.out
    (folder / "onnx" / "model_int8.onnx").write_bytes(b"no model")
    ended = cli("audit", folder, "--limit", 16, "--format", "json")
    assert ended.code == 1
    files = {row["path"].rpartition("/")[2]: row for row in json.loads(ended.out)["files"]}
    assert (files["model.onnx"]["verdict"], files["model_int8.onnx"]["verdict"]) == ("baseline", "broken")
    assert "does not load" in files["model_int8.onnx"]["reason"]


def test_a_missing_folder_is_one_line(cli, tmp_path) -> None:
    ended = cli("audit", tmp_path / "none")
    assert (ended.code, ended.err.count("\n")) == (5, 1)
    assert ended.err.startswith("ONX501")


def test_variants_are_written_and_audited(cli, tmp_path) -> None:
    model = published(tmp_path) / "onnx" / "model.onnx"
    ended = cli("variants", model, "--for", "transformers.js", "--only", "q8", "--limit", 16, "--max-drop", "50pp")
    assert (ended.code, model.with_name("model_quantized.onnx").exists()) == (0, True)
    assert "variants.md" in "".join(ended.out.split())  # a long path is cut at the end of a line
    assert cli("variants", model, "--for", "transformers.js", "--only", "q8").code == 5
    assert cli("variants", model, "--for", "nobody").code == 2
