"""A merged decoder has its products in the branches of an If; it takes every form of a part."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.measure.generation.chain import TextStart
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import load
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import target_of
from onnxopt.tasks.parts import bits
from onnxopt.tasks.parts.forms import FORMS
from onnxopt.tasks.parts.optimize import optimize_parts
from onnxopt.tasks.parts.roles import parts_of
from tests.tasks.parts.merged import merged, merged_folder
from tests.tasks.parts.seq2seq import folder_of, sentences
from tests.tasks.parts.test_bits import stored


def read(folder: Path) -> np.ndarray:
    """Return the logits behind four tokens that are read one by one."""
    parts, ids = parts_of(folder, sorted((folder / "onnx").glob("*.onnx"))), sentences(1)["input_ids"]
    begin = parts.chain.load(Runtime())
    walk, _ = begin(TextStart({"input_ids": ids, "attention_mask": np.ones_like(ids)}, np.array([3])))
    return np.concatenate([walk.feed(np.array([token])) for token in (3, 5, 7, 9)])


def test_a_merged_decoder_reads_as_its_two_parts_do(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(merged_folder(tmp_path / "one")), read(folder_of(tmp_path / "two")))


def test_a_weight_of_both_branches_is_stored_once_in_few_bits() -> None:
    made = Pipeline(parse(FORMS["4 bits"])).run(merged(), Context(target_of("auto"))).model
    packed = [node for graph in made.graphs() for node in graph if node.op_type == "MatMulNBits"]
    names = [node.inputs[1].name for node in packed if node.inputs[1] is not None]
    # Four projections, two of the encoder's output in the first step alone, up, down and the last one.
    assert (len(names), len(set(names))) == (8 + 6, 8)


def test_a_folder_with_a_merged_decoder_has_all_forms(tmp_path: Path) -> None:
    folder = merged_folder(tmp_path / "mini")
    made = optimize_parts(folder, sentences(40), out=tmp_path / "run", goal="size", max_drop="50pp", latency_s=0.05,
                          new_tokens=4)  # fmt: skip
    assert {one.form.name for one in made.found.alone if one.form.part == "decoder"} == set(FORMS)
    assert made.found.left == {}


def test_a_weight_of_both_branches_gets_one_form_among_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "has_matrices", lambda _: True)
    seen, plain = list[ir.Model](), bits.make_form

    def look(part, files, name, passes, **rest):
        made = plain(part, files, name, passes, **rest)
        if part == "decoder":
            seen.append(load(made.files[files[0]]))
        return made

    monkeypatch.setattr(bits, "make_form", look)
    folder = merged_folder(tmp_path / "mini")
    made = optimize_parts(folder, sentences(40), out=tmp_path / "run", goal="size", max_drop=4e-5, latency_s=0.05,
                          new_tokens=4)  # fmt: skip
    mixes = [one for one in made.found.alone if one.form.name.startswith("bits per matrix")]
    assert {one.form.part for one in mixes} == {"encoder", "decoder"}
    assert any(len({*kernels(model)}) > 1 for model in seen)
    for model in seen:
        (around,) = (node for node in model.graph if node.op_type == "If")
        first, later = (stored(around.attributes[name].as_graph()) for name in ("else_branch", "then_branch"))
        # The first one makes the keys and values of the encoder's output besides.
        assert all(numbers <= first[kind] for kind, numbers in later.items())
        # Nothing is in the file twice.
        values = (v.const_value for graph in model.graphs() for v in graph.initializers.values())
        large = [tensor.tobytes() for tensor in values if tensor is not None and tensor.size > 500]
        assert len(large) == len(set(large))


def kernels(model: ir.Model) -> list[str]:
    kinds = ("MatMul", "MatMulNBits", "MatMulInteger", "DynamicQuantizeMatMul")
    nodes = [node for graph in model.graphs() for node in graph if node.op_type in kinds]
    return [f"{node.op_type} {node.attributes.get_int('bits', 0)}" for node in nodes]
