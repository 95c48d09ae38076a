"""A part gets a form whose matrices have each their own bits, within the budget of the folder."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import format_passes, parse
from onnxopt.model_file import load, save
from onnxopt.pipeline import Context, Pipeline
from onnxopt.search.mix.bits import BASE, FORMS, named_base
from onnxopt.search.trial import Candidate
from onnxopt.solver import Mix
from onnxopt.target import target_of
from onnxopt.tasks.parts import bits, tables
from onnxopt.tasks.parts.forms import FORMS as UNIFORM
from onnxopt.tasks.parts.losses import ChainLosses
from onnxopt.tasks.parts.optimize import OptimizedParts, optimize_parts
from onnxopt.tasks.parts.pieces import pieces_of
from onnxopt.tasks.parts.twins import twins_of
from tests.measure.generation.decoders import causal, texts
from tests.tasks.parts.seq2seq import folder_of, sentences


def optimized(folder: Path, max_drop: str, goal: str = "size") -> OptimizedParts:
    """Return the search for the smallest or fastest decoder in a folder."""
    ids = np.array(texts(60))
    places = np.tile(np.arange(12), (60, 1))
    data = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": places}
    return optimize_parts(
        folder, data, out=folder.parent / "run", goal=goal, max_drop=max_drop, latency_s=0.05, new_tokens=4
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bits, "has_matrices", lambda _: True)
    place = tmp_path / "alone"
    place.mkdir()
    save(causal(), place / "text.onnx")
    (place / "genai_config.json").write_text(json.dumps({"model": {"decoder": {"filename": "text.onnx"}}}))
    return place


def kernels(model: ir.Model) -> set[str]:
    found = {node.op_type + str(node.attributes.get_int("bits", 0) or "") for node in model.graph}
    return found & {"MatMul", "MatMulNBits4", "MatMulNBits8", "MatMulInteger", "DynamicQuantizeMatMul"}


def test_a_mix_is_smaller_than_the_uniform_forms_of_the_same_drop(folder: Path) -> None:
    made = optimized(folder, "3pp")
    mixes = [one for one in made.found.alone if one.form.name.startswith("bits per matrix")]
    assert mixes
    record = json.loads((folder.parent / "run" / "parts.json").read_text())
    assert [form["form"] for form in record["forms"]][3:] == [one.form.name for one in mixes]
    uniform = [one for one in made.found.alone if one not in mixes and one.drop <= 0.03]
    inside = [one for one in mixes if one.drop <= 0.03]
    assert max(one.saved_bytes for one in inside) > max((one.saved_bytes for one in uniform), default=0)
    context = Context(target_of("auto"))
    several = [kernels(Pipeline(parse(one.form.passes)).run(causal(), context).model) for one in mixes]
    assert any(len(found) > 1 for found in several)


def test_the_lengths_are_a_prompt_and_single_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def measured(model, context, inputs, **options):
        seen.extend([(feeds["input_ids"].shape, runs) for feeds, runs in inputs])
        return bit_tables(model, context, inputs, **options)

    bit_tables = tables.bit_tables
    monkeypatch.setattr(tables, "bit_tables", measured)
    optimized(folder, "3pp")
    assert seen == [((1, 6), 1.0), ((1, 1), 3.0)]


def stored(graph: ir.Graph) -> dict[str, set[str]]:
    """Return the checksums of the matrices of a graph by the operator that reads them."""
    found = dict[str, set[str]]()
    for node in graph:
        values = (value for value in node.inputs if value is not None and value.const_value is not None)
        for array in (value.const_value.numpy() for value in values if value.const_value is not None):
            if array.size > 500:
                found.setdefault(node.op_type, set()).add(sha256(np.ascontiguousarray(array).tobytes()).hexdigest())
    return found


def test_a_matrix_of_two_files_has_one_form_and_the_same_numbers_in_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bits, "has_matrices", lambda _: True)
    source = folder_of(tmp_path / "mini")
    seen = list[list[dict[str, set[str]]]]()
    plain = bits.make_form

    def look(part, files, name, passes, **rest):
        made = plain(part, files, name, passes, **rest)
        seen.append([stored(load(made.files[path]).graph) for path in files])
        return made

    monkeypatch.setattr(bits, "make_form", look)
    made = optimize_parts(source, sentences(40), out=tmp_path / "run", goal="size", max_drop=4e-5, latency_s=0.05,
                          new_tokens=4)  # fmt: skip
    mixes = [one for one in made.found.alone if one.form.name.startswith("bits per matrix")]
    assert {one.form.part for one in mixes} == {"encoder", "decoder"}
    pairs = [some for some in seen if len(some) > 1]
    assert pairs
    for first, later in pairs:
        # The decoder of the first token makes the keys and values of the encoder's output besides.
        assert all(numbers <= first[kind] for kind, numbers in later.items())
    assert any(len(later) > 1 for _, later in pairs)


def test_a_mix_that_is_a_uniform_form_is_not_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[tuple[bool, float]]()

    class Uniform:
        def __init__(self, *_: object) -> None:
            pass

        def next(self) -> Candidate | None:
            return None if told else Candidate("bits-1", parse(UNIFORM["8 bits"]))

        latest = Mix({}, {})

        def learn(self, *, good: bool, share: float) -> None:
            told.append((good, share))

    monkeypatch.setattr(bits, "Mixer", Uniform)
    same = format_passes(parse(UNIFORM["8 bits"]))
    monkeypatch.setattr(tables.PartTables, "passes", lambda *_: {folder / "text.onnx": same})
    forms = optimized(folder, "3pp").found.alone
    assert [one.form.name for one in forms] == list(UNIFORM)
    drop = next(one.drop for one in forms if one.form.name == "8 bits")
    assert told == [(True, pytest.approx(drop / 0.03))]


@pytest.mark.parametrize("goal", ["latency", "size"])
def test_one_form_for_all_matrices_is_measured_beside_a_mix_where_time_is_the_goal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, goal: str
) -> None:
    class Fixed:
        latest = Mix({}, {})

        def __init__(self, *_: object) -> None:
            self.steps = iter(["bits-1"])

        def next(self) -> Candidate | None:
            return self.uniform(0, next(self.steps, ""))

        def uniform(self, number: int, name: str = "uniform-bits-1") -> Candidate | None:
            self.latest = Mix({}, {"all": "tables=true" if number else "block=64"})
            return Candidate(name, ()) if name else None

        def learn(self, **_: object) -> None:
            pass

    def passes(_: object, mix: Mix) -> dict[Path, str]:
        return {folder / "text.onnx": f"simplify,quantize-weights{{{mix.modes['all']}}}"}

    monkeypatch.setattr(bits, "Mixer", Fixed)
    monkeypatch.setattr(tables.PartTables, "passes", passes)
    made = optimized(folder, "3pp", goal).found.alone
    names = [one.form.name for one in made if one.form.name not in UNIFORM]
    assert names == ["bits per matrix 1", *["one form for all matrices 1"] * (goal == "latency")]


def test_no_budget_has_none(folder: Path) -> None:
    found = optimized(folder, "0").found
    assert [one.form.name for one in found.alone] == ["dynamic INT8", "8 bits", "4 bits"]


def test_losses_are_the_divergence_through_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[ChainLosses]()
    plain = bits.mixed_forms

    def look(job, *rest):
        file = folder / "text.onnx"
        made.append(
            ChainLosses(job, pieces_of(job, "decoder"), file, twins_of({file: named_base(load(file), job.context)}))
        )
        return plain(job, *rest)

    monkeypatch.setattr("onnxopt.tasks.parts.search.mixed_forms", look)
    found = optimized(folder, "3pp").found
    four = made[0](BASE, [FORMS["4 bits"], FORMS["8 bits"]])
    assert 0 < four[1] < four[0]
    # The drop is the probability that is lost per token, over all texts.
    drop = next(one.drop for one in found.alone if one.form.name == "4 bits")
    assert 1 - np.exp(-four[0]) == pytest.approx(drop, rel=0.4)
