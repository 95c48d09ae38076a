"""Files of a convention: names and types as published, each runs, and a broken one is not kept."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxopt
from onnxopt.errors import FileError, UsageError
from onnxopt.model_file import load, memory, save
from onnxopt.tasks.variants import make
from onnxopt.tasks.variants.audit import audit
from onnxopt.tasks.variants.make import Variants, variants
from onnxopt.tasks.variants.verdict import Standing
from tests import builders
from tests.tasks.variants.published import encoder, pair, samples

NAMES = {
    "transformers.js": {
        "model_quantized.onnx": "int8",
        "model_int8.onnx": "int8",
        "model_uint8.onnx": "uint8",
        "model_q4.onnx": "",
        "model_fp16.onnx": "",
        "model_q4f16.onnx": "",
        "model_bnb4.onnx": "",
    },
    "sentence-transformers": {
        "model_O1.onnx": "",
        "model_qint8_arm64.onnx": "int8",
        "model_quint8_avx2.onnx": "uint8",
        "model_qint8_avx512.onnx": "int8",
        "model_qint8_avx512_vnni.onnx": "int8",
    },
    "genai": {"cpu-int4-rtn-block-32-acc-level-4/model.onnx": ""},
}
"""Files that are made, with the type of their weights in products."""
LEFT = {
    "transformers.js": set(),
    # The encoder has no attention.
    "sentence-transformers": {"model_O2.onnx", "model_O3.onnx", "model_O4.onnx"},
    "genai": {"cpu-int4-rtn-block-32/model.onnx", "cuda-fp16/model.onnx"},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the float32 file in a folder with the side files of onnxruntime-genai."""
    config = {"model": {"type": "bert", "decoder": {"filename": "model.onnx"}}}
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text("{}")
    return save(encoder(), tmp_path / "model.onnx")[0]


def written(found: Variants, folder: Path) -> dict[str, Path]:
    return {one.files[0].relative_to(folder).as_posix(): one.files[0] for one in found.made if one.files}


def weight_types(path: Path) -> set[str]:
    proto = onnx.load(path)
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    read = {node.input[1] for node in proto.graph.node if node.op_type == "MatMulInteger"}
    return {onnx.TensorProto.DataType.Name(types[name]).lower() for name in read}


@pytest.mark.parametrize("convention", NAMES)
def test_every_file_has_its_published_name_and_type_and_runs(model: Path, convention: str) -> None:
    found = variants(model, convention, samples(), max_drop="50pp")
    files = written(found, model.parent)
    assert set(files) == set(NAMES[convention])
    assert set(found.left) == LEFT[convention]
    assert found.passed
    expected = onnxruntime.InferenceSession(str(model)).run(None, samples())[0]
    for name, path in files.items():
        outputs = onnxruntime.InferenceSession(str(path)).run(None, samples())[0]
        assert np.mean(outputs.argmax(1) == expected.argmax(1)) > 0.8
        kind = NAMES[convention][name]
        assert weight_types(path) == ({kind} if kind else set())
    judged = {one.judged.path.name: one.judged for one in found.made}
    assert all(one.score is not None and one.score.interval.low < 1 for one in judged.values())


def test_four_bits_are_products_of_the_runtime_with_level_4(model: Path) -> None:
    found = variants(model, "genai", samples(), max_drop="50pp")
    proto = onnx.load(found.made[0].files[0])
    products = [node for node in proto.graph.node if node.op_type == "MatMulNBits"]
    attributes = [{a.name: a.i for a in node.attribute} for node in products]
    assert len(products) >= 2
    assert all((a["bits"], a["block_size"], a["accuracy_level"]) == (4, 32, 4) for a in attributes)


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def test_the_files_in_16_bits_keep_float32_inputs_and_outputs_and_the_others_have_4_bits(model: Path) -> None:
    found = written(
        variants(model, "transformers.js", samples(), only=["fp16", "q4f16", "bnb4"], max_drop="50pp"), model.parent
    )
    proto = onnx.load(found["model_fp16.onnx"])
    assert {tensor.data_type for tensor in proto.graph.initializer if tensor.dims} >= {onnx.TensorProto.FLOAT16}
    assert onnx.TensorProto.FLOAT not in {tensor.data_type for tensor in proto.graph.initializer}
    for name in ("model_fp16.onnx", "model_q4f16.onnx"):
        (output,) = onnx.load(found[name]).graph.output
        assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert "MatMulNBits" in operators(found["model_q4f16.onnx"])
    assert {"MatMulBnb4"} <= operators(found["model_bnb4.onnx"]) - operators(model)
    sizes = [found[name].stat().st_size for name in ("model_q4f16.onnx", "model_fp16.onnx")]
    assert sizes[0] < sizes[1] < model.stat().st_size


def test_the_levels_of_optimum_are_folded_fused_approximated_and_in_16_bits(tmp_path: Path) -> None:
    save(builders.BUILDERS["transformer_17"](), tmp_path / "model.onnx")
    files = written(
        variants(tmp_path / "model.onnx", "sentence-transformers", only=["O1", "O2", "O3", "O4"], max_drop="5pp"),
        tmp_path,
    )
    assert {"Erf", "Softmax"} <= operators(files["model_O1.onnx"])
    assert {"Gelu", "MultiHeadAttention"} <= operators(files["model_O2.onnx"])
    graphs = {name: onnx.load(path).graph for name, path in files.items()}
    gelus = {
        name: {a.s for node in graph.node if node.op_type == "Gelu" for a in node.attribute}
        for name, graph in graphs.items()
    }
    assert gelus == {
        "model_O1.onnx": set(), "model_O2.onnx": set(), "model_O3.onnx": {b"tanh"}, "model_O4.onnx": {b"tanh"}
    }  # fmt: skip
    for level in ("O3", "O4"):
        assert "MultiHeadAttention" in operators(files[f"model_{level}.onnx"])
    half = {tensor.data_type for tensor in graphs["model_O4.onnx"].initializer if len(tensor.dims) > 1}
    assert half == {onnx.TensorProto.FLOAT16}
    ends = [*graphs["model_O4.onnx"].input, *graphs["model_O4.onnx"].output]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    labels = {Path(file["path"]).name: file["type"] for file in audit(tmp_path).document.data["files"]}
    assert labels == {"model.onnx": "", **{f"model_{level}.onnx": level for level in ("O1", "O2", "O3", "O4")}}


def test_a_file_of_4_and_16_bits_is_left_where_nothing_gets_4_bits(tmp_path: Path) -> None:
    save(builders.BUILDERS["residual_cnn"](), tmp_path / "model.onnx")
    found = variants(tmp_path / "model.onnx", "transformers.js", only=["fp16", "q4f16"], max_drop="90pp")
    assert [one.judged.path.name for one in found.made] == ["model_fp16.onnx"]
    assert found.left["model_q4f16.onnx"].startswith("no layer can be quantized: ")


def test_a_model_with_convolutions_has_unsigned_weights_in_q8(tmp_path: Path) -> None:
    net = builders.Net(3)
    hidden = net.node("Relu", net.conv("x", 3, 8))
    flat = net.node("Flatten", hidden)
    net.node("MatMul", flat, net.weight(512, 8), out="y")
    save(net.model([builders.IMAGE], [("y", builders.F, ["batch", 8])]), tmp_path / "encoder_model.onnx")
    found = variants(tmp_path / "encoder_model.onnx", "transformers.js", only=["q8", "int8"], max_drop="90pp")
    kinds = {one.judged.path.name: weight_types(one.files[0]) for one in found.made}
    assert kinds == {"encoder_model_quantized.onnx": {"uint8"}, "encoder_model_int8.onnx": {"int8"}}


def test_the_side_files_go_with_a_folder_of_onnxruntime_genai(model: Path) -> None:
    (model.parent / "README.md").write_text("mine")
    found = variants(model, "genai", samples(), max_drop="50pp")
    folder = model.parent / "cpu-int4-rtn-block-32-acc-level-4"
    assert sorted(f.name for f in folder.iterdir()) == [
        "README.md",
        "genai_config.json",
        "model.onnx",
        "tokenizer.json",
    ]
    assert (folder / "genai_config.json").read_bytes() == (model.parent / "genai_config.json").read_bytes()
    assert {file.parent for file in found.made[0].files} == {folder}
    kinds = {one.path.parent.name: one.standing for one in audit(model.parent, samples(), max_drop="50pp").files}
    assert kinds[folder.name] is Standing.GOOD


def test_onnxruntime_genai_needs_its_configuration(model: Path) -> None:
    config = model.parent / "genai_config.json"
    config.write_text(json.dumps({"model": {"decoder": {"filename": "other.onnx"}}}))
    with pytest.raises(UsageError, match=r"ONX101.*names other\.onnx, not model\.onnx"):
        variants(model, "genai")
    config.unlink()
    with pytest.raises(FileError, match=r"ONX501.*genai_config\.json"):
        variants(model, "genai")


def test_a_broken_file_is_not_kept_and_an_older_one_stays(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = model.parent / "model_q4.onnx"
    older.write_bytes(b"older")
    whole = make._result

    def spoiled(graph, passes):
        result = whole(graph, passes)
        if "bits=4" in passes:
            spoil(result.model)
        return result

    def spoil(made):
        from onnxopt.graph.edit import set_weight

        scales = [v for name, v in made.graph.initializers.items() if "scale" in name]
        assert scales
        for value in scales:
            set_weight(
                value, np.random.RandomState(1).standard_normal(value.const_value.shape.numpy()).astype(np.float32)
            )

    monkeypatch.setattr(make, "_result", spoiled)
    found = variants(model, "transformers.js", samples(), only=["q8", "q4"], max_drop="50pp", overwrite=True)
    standing = {one.judged.path.name: (one.judged.standing, bool(one.files)) for one in found.made}
    assert standing["model_quantized.onnx"] == (Standing.GOOD, True)
    assert standing["model_q4.onnx"] == (Standing.BROKEN, False)
    assert older.read_bytes() == b"older"
    assert not found.passed
    text = "\n".join(found.document.blocks[1].lines)
    assert "model_q4.onnx was not written, because it is broken: answers near chance" in text
    assert found.card is not None
    assert "q4 |" not in found.card.read_text()
    assert not list(model.parent.glob(".*"))


def test_a_folder_of_a_broken_file_is_removed_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxopt.tasks.variants.reference import Reference

    judged = Reference.judged

    def broken(self, path, label, *, name=None):
        from dataclasses import replace

        return replace(judged(self, path, label, name=name), standing=Standing.BROKEN, reason="a test")

    monkeypatch.setattr(Reference, "judged", broken)
    found = variants(model, "genai", samples())
    assert (found.passed, found.card) == (False, None)
    assert not (model.parent / "cpu-int4-rtn-block-32-acc-level-4").exists()


def test_the_card_states_fidelity_with_its_interval_and_how_each_was_made(model: Path) -> None:
    found = variants(model, "transformers.js", samples(), max_drop="50pp")
    assert found.card == model.parent / "variants.md"
    text = found.card.read_text()
    assert text.startswith("## Variants\n")
    assert "| File | Type | Size | Fidelity to model.onnx | Made by |" in text
    for one in found.made:
        score = one.judged.score
        assert score is not None
        interval = f"[{100 * score.interval.low:.2f}, {100 * score.interval.high:.2f}]"
        row = next(line for line in text.splitlines() if line.startswith(f"| {one.judged.path.name} |"))
        assert f"{100 * score.value:.2f} % {interval}" in row
        assert one.passes in row
    assert "96 samples" in text
    assert "made-up" not in text
    assert str(model.parent) not in text
    variants(model, "transformers.js", max_drop="50pp", overwrite=True, limit=16)
    assert "16 made-up inputs" in found.card.read_text()


def test_files_stay_unless_they_may_be_replaced(model: Path) -> None:
    (model.parent / "model_uint8.onnx").write_bytes(b"mine")
    with pytest.raises(FileError, match=r"ONX502.*model_uint8\.onnx"):
        variants(model, "transformers.js")
    assert {f.name for f in model.parent.glob("model*")} == {"model.onnx", "model_uint8.onnx"}
    (model.parent / "model_uint8.onnx").unlink()
    (model.parent / "variants.md").write_text("mine")
    with pytest.raises(FileError, match=r"ONX502.*variants\.md"):
        variants(model, "transformers.js")


def test_files_go_to_another_folder(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileError, match=r"ONX503.*no folder"):
        variants(model, "transformers.js", samples(), out=out, only=["q8"])
    out.mkdir()
    found = variants(model, "transformers.js", samples(), out=out, only=["q8"], max_drop="50pp")
    assert list(written(found, out)) == ["model_quantized.onnx"]
    assert found.card == out / "variants.md"


def test_a_model_without_such_layers_is_left_with_the_reason(tmp_path: Path) -> None:
    save(builders.BUILDERS["residual_cnn"](), tmp_path / "model.onnx")
    found = variants(tmp_path / "model.onnx", "transformers.js", only=["q4"])
    assert (found.made, found.card, found.passed) == ((), None, True)
    assert found.left["model_q4.onnx"].startswith("no layer can be quantized: ")
    assert "Nothing was written." in found.document.blocks[1].lines


def test_large_models_have_the_data_file_of_the_convention(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", 10_000)
    found = variants(model, "transformers.js", samples(), only=["q8", "q4"], max_drop="50pp")
    assert [f.name for f in found.made[1].files] == ["model_q4.onnx", "model_q4.onnx_data"]
    load(found.made[1].files[0])
    with pytest.raises(FileError, match=r"ONX502.*model_quantized\.onnx_data"):
        variants(model, "transformers.js", samples(), overwrite=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("model.onnx", {"convention": "transformer.js"}, r"ONX101.*Did you mean 'transformers\.js'"),
        ("model.onnx", {"only": ["q5"]}, r"ONX101.*\[q5\]"),
        ("model_q4.onnx", {}, r"ONX101.*a variant itself"),
        ("model.onnx", {"max_drop": "much"}, "ONX101"),
    ],
)
def test_what_makes_no_sense_is_refused(model: Path, name: str, options: dict[str, object], message: str) -> None:
    path = model if name == model.name else save(pair(), model.parent / name)[0]
    with pytest.raises(UsageError, match=message):
        variants(path, **({"convention": "transformers.js"} | options))


def test_the_public_name_is_this_call(model: Path) -> None:
    found = onnxopt.variants(model, "transformers.js", samples(), only=["q8"], max_drop="50pp")
    assert isinstance(found, onnxopt.Variants)
    assert isinstance(found.made[0], onnxopt.MadeFile)
    assert "<table" in found._repr_html_()
    assert json.dumps(found.document.data)
