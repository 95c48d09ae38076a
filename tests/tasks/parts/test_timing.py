"""A folder is timed on prompts of a given length, each part of a text with its weight."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from onnxopt.errors import NativeError, UsageError
from onnxopt.measure.generation.speed import GenerationSpeed, Length
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.statistics import Interval
from onnxopt.model_file import save
from onnxopt.samples import open_samples
from onnxopt.tasks.parts import bits, tables, timing
from onnxopt.tasks.parts.optimize import optimize_parts
from onnxopt.tasks.parts.roles import FolderParts, parts_of
from onnxopt.tasks.parts.texts import texts_of
from onnxopt.tasks.parts.timing import PartsTiming, timing_of
from tests.cli.conftest import cli
from tests.measure.generation.decoders import causal, texts, whole
from tests.tasks.parts.seq2seq import folder_of, sentences

__all__ = ["cli"]


@pytest.fixture
def translator(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "mini")


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    folder = tmp_path / "alone"
    folder.mkdir()
    save(causal(), folder / "text.onnx")
    return folder


def samples(count: int) -> dict[str, np.ndarray]:
    """Return texts of 12 tokens for the decoder alone."""
    made = [whole(text) for text in texts(count)]
    return {name: np.concatenate([one[name] for one in made]) for name in made[0] if "past" not in name}


def timed(folder: Path, data: dict[str, np.ndarray], sequence: str | None) -> tuple[FolderParts, PartsTiming]:
    models = sorted(folder.glob("*.onnx")) or sorted((folder / "onnx").glob("*.onnx"))
    parts, length = parts_of(folder, models), Length(4, 5)
    given = texts_of(parts, open_samples(data, parts.inputs, batch_size=1), folder, length, Runtime())
    return parts, timing_of(parts, given, length, sequence, runtime=Runtime(), seed=0)


def test_a_decoder_reads_prompts_of_the_length_that_go_on_with_the_next_text(alone: Path) -> None:
    _, found = timed(alone, samples(3), "20:0.3,1:0.7")
    # Of each text prompt and new tokens are read.
    one, two, three = (text[:9].tolist() for text in texts(3))
    assert [start.tokens.tolist() for start in found.starts] == [
        (one + two + three)[:20], (two + three + one)[:20], (three + one + two)[:20]]  # fmt: skip
    assert (found.prompts, found.steps) == (pytest.approx(0.3), pytest.approx(0.7))


def test_behind_an_encoder_its_inputs_have_the_length(translator: Path) -> None:
    parts, found = timed(translator, sentences(3), "9:0.2,1:0.8")
    assert {array.shape for start in found.starts for array in start.given.values()} == {(1, 9)}
    assert [start.tokens.tolist() for start in found.starts] == [[3]] * 3
    walk, tokens = parts.chain.load(Runtime())(found.starts[0])
    walk.feed(tokens)
    assert walk.latest["encoder_attention_mask"].shape == (1, 9)


def test_without_lengths_a_whole_text_is_timed(alone: Path) -> None:
    _, found = timed(alone, samples(3), None)
    assert [len(start.tokens) for start in found.starts] == [4] * 3
    speed = GenerationSpeed(8.0, 500.0, None, None, None, 9)
    assert (found.prompts, found.steps, found.ms(speed)) == (1.0, 4.0, 16.0)


def test_times_have_the_weights_of_the_lengths(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = timed(alone, samples(3), "8:0.25,1:0.75")
    assert found.ms(GenerationSpeed(8.0, 500.0, None, None, None, 9)) == pytest.approx(0.25 * 8 + 0.75 * 2)
    # A text of four tokens behind the first one has each with a quarter of the weight.
    seen = list[tuple[float, float]]()
    monkeypatch.setattr(timing, "measure_speed", lambda *_, weights, **__: seen.append(weights) or {})
    found.measure({}, 0.1)
    assert seen == [(pytest.approx(0.25), pytest.approx(0.75 / 4))]


def test_the_matrices_of_a_part_have_the_weights_too(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, clocks = Counter[tuple[tuple[int, ...], float]](), list[int]()

    def measured(model, context, inputs, *, clock, **_):
        seen.update((feeds["input_ids"].shape, round(runs, 6)) for feeds, runs in inputs)
        clocks.append(len(clock({"float": model})))
        raise NativeError("ONX401", "seen")

    monkeypatch.setattr(bits, "has_matrices", lambda _: True)
    monkeypatch.setattr(tables, "bit_tables", measured)
    for number, sequence in enumerate(("20:0.3,1:0.7", "20")):
        optimize_parts(alone, samples(40), out=alone.parent / f"run{number}", sequence=sequence, latency_s=0.05,
                       new_tokens=3, max_drop="3pp")  # fmt: skip
    assert seen == {((1, 20), 0.3): 1, ((1, 1), 0.7): 1, ((1, 20), 1.0): 1}
    assert clocks == [2, 1]


def test_a_prompt_that_gains_outweighs_tokens_that_lose_by_the_weights(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(chains, *_, weights, **__):
        first, *others = chains
        value = (weights[0] * 8 + weights[1] * 4) / (weights[0] * 4 + weights[1] * 8)
        twice = Interval(value - 0.01, value, value + 0.01)
        speed = GenerationSpeed(8.0, 1000.0, None, None, None, 9)
        return {first: speed} | {name: GenerationSpeed(4.0, 500.0, twice, twice, twice, 9) for name in others}

    monkeypatch.setattr(timing, "measure_speed", measured)
    runs = {}
    for number, sequence in enumerate(("20:0.9,1:0.1", "20:0.05,1:0.95")):
        runs[sequence] = optimize_parts(alone, samples(60), out=alone.parent / f"run{number}", sequence=sequence,
                                        max_drop="50pp", new_tokens=5)  # fmt: skip
    assert [made.found.winner is not None for made in runs.values()] == [True, False]
    made = runs["20:0.9,1:0.1"]
    assert [one.saved_ms for one in made.found.alone] == [pytest.approx(0.9 * 4 - 0.1)] * 3
    record = json.loads((alone.parent / "run0" / "parts.json").read_text())
    assert (record["sequence"], record["length"]) == ("20:0.9,1:0.1", {"prompt": 20, "new": 5})
    lines = made.document.blocks[1].lines
    said = "Times are weighted: a prompt and single tokens behind it, 20 (90% of the runs) and 1 (10% of the runs)."
    assert said in lines


@pytest.mark.parametrize(
    ("sequence", "why"), [("8,4,1", "a folder is timed at one prompt and at 1"), ("1", "no length is that of one")]
)
def test_other_lengths_are_refused(alone: Path, sequence: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"ONX112.*{why}"):
        optimize_parts(alone, samples(40), out=alone.parent / "run", sequence=sequence)
    assert not (alone.parent / "run").exists()


def test_a_prompt_that_is_too_long_is_said_so(alone: Path) -> None:
    with pytest.raises(NativeError, match=r"ONX401.*cannot read a prompt of 65 tokens"):
        timed(alone, samples(9), "65:0.5,1:0.5")


def test_the_command_takes_lengths_for_a_folder(alone: Path, cli) -> None:
    np.savez(alone.parent / "texts.npz", **samples(40))
    words = ["--out", alone.parent / "run", "--latency-seconds", "0.05", "--max-drop", "50pp", "--goal", "size"]
    ended = cli("optimize", alone, "--data", alone.parent / "texts.npz", "--sequence", "10:0.5,1:0.5", *words)
    # On a busy host no form is faster beyond doubt.
    assert ended.code in (0, 1), ended.err
    assert "Times are weighted" in ended.out
