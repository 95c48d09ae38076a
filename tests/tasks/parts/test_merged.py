"""A merged decoder has its products in the branches of an If; it takes every form of a part."""

from pathlib import Path

import numpy as np

from onnxopt.catalog import parse
from onnxopt.measure.generation.chain import TextStart
from onnxopt.measure.runtime.session import Runtime
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import target_of
from onnxopt.tasks.parts.forms import FORMS
from onnxopt.tasks.parts.optimize import optimize_parts
from onnxopt.tasks.parts.roles import parts_of
from tests.tasks.parts.merged import merged, merged_folder
from tests.tasks.parts.seq2seq import folder_of, sentences


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
