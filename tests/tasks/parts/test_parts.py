"""Encoder and decoder are read as one, get one budget, and are written again together."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import onnxopt
from onnxopt.errors import FileError, UsageError
from onnxopt.measure.generation.chain import TextStart, greedy
from onnxopt.measure.generation.speed import GenerationSpeed
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.statistics import Interval
from onnxopt.model_file import save
from onnxopt.options.search import Goal
from onnxopt.tasks.parts import timing
from onnxopt.tasks.parts.choice import MeasuredForm, choices
from onnxopt.tasks.parts.config import end_tokens, first_token
from onnxopt.tasks.parts.forms import PartForm
from onnxopt.tasks.parts.optimize import optimize_parts
from onnxopt.tasks.parts.roles import parts_of
from onnxopt.tasks.variants.layout import file_names
from tests.cli.conftest import cli
from tests.measure.generation.decoders import causal, texts
from tests.tasks.parts.seq2seq import folder_of, sentences
from tests.tasks.variants.published import pair

__all__ = ["cli"]
FAST = {"latency_s": 0.05, "new_tokens": 5}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "mini")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every form take half of the time."""

    def timed(chains, starts, length, runtime, **_):
        first, *others = chains
        speed = GenerationSpeed(8.0, 1000.0, None, None, None, 9)
        twice = Interval(1.9, 2.0, 2.1)
        return {first: speed} | {name: GenerationSpeed(4.0, 2000.0, twice, twice, twice, 9) for name in others}

    monkeypatch.setattr(timing, "measure_speed", timed)


def models(folder: Path) -> list[Path]:
    return sorted((folder / "onnx").glob("*.onnx"))


def run(path: Path, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def by_hand(folder: Path, ids: np.ndarray, tokens: list[int]) -> np.ndarray:
    """Return the logits behind each token, by the runtime alone, as a program calls the three files."""
    mask = np.ones_like(ids)
    hidden = run(folder / "onnx" / "encoder_model.onnx", input_ids=ids, attention_mask=mask)["last_hidden_state"]
    found = run(folder / "onnx" / "decoder_model.onnx", input_ids=np.array([tokens[:1]]), encoder_attention_mask=mask,
                encoder_hidden_states=hidden)  # fmt: skip
    logits, cache = (
        [found.pop("logits")[0, -1]],
        {name.replace("present", "past_key_values"): a for name, a in found.items()},
    )
    for token in tokens[1:]:
        later = run(folder / "onnx" / "decoder_with_past_model.onnx", input_ids=np.array([[token]]),
                    encoder_attention_mask=mask, **cache)  # fmt: skip
        logits.append(later.pop("logits")[0, -1])
        cache |= {name.replace("present", "past_key_values"): array for name, array in later.items()}
    return np.array(logits)


def test_encoder_and_two_decoders_read_a_text_as_a_program_calls_them(source: Path) -> None:
    parts = parts_of(source, models(source))
    assert parts.encoder == source / "onnx" / "encoder_model.onnx"
    assert [path.stem for path in parts.decoders] == ["decoder_model", "decoder_with_past_model"]
    ids = sentences(1)["input_ids"]
    begin = parts.chain.load(Runtime())
    walk, first = begin(TextStart({"input_ids": ids, "attention_mask": np.ones_like(ids)}, np.array([3])))
    text = greedy(walk, first, 6, frozenset())
    logits = by_hand(source, ids, list(map(int, text[:-1])))
    assert list(text[1:]) == list(logits.argmax(axis=1))
    reader, _ = begin(TextStart({"input_ids": ids, "attention_mask": np.ones_like(ids)}, np.array([3])))
    read = np.concatenate([reader.feed(text[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(read, logits, atol=1e-5)


def test_a_text_ends_with_the_token_that_the_configuration_names(source: Path) -> None:
    assert first_token(source) == 3
    assert end_tokens(source) == {39}
    parts = parts_of(source, models(source))
    ids = sentences(1)["input_ids"]
    begin = parts.chain.load(Runtime())
    start = TextStart({"input_ids": ids, "attention_mask": np.ones_like(ids)}, np.array([3]))
    walk, first = begin(start)
    second = int(greedy(walk, first, 1, frozenset())[1])
    walk, first = begin(start)
    assert len(greedy(walk, first, 9, frozenset([second]))) == 2


def test_one_budget_for_all_files_and_the_folder_is_written_again(source: Path, tmp_path: Path) -> None:
    made = onnxopt.optimize_parts(source, sentences(60), out=tmp_path / "run", max_drop="20pp", **FAST)
    assert isinstance(made, onnxopt.OptimizedParts)
    winner = made.found.winner
    assert winner is not None
    assert {form.part for form in winner.forms} == {"encoder", "decoder"}
    assert made.out == tmp_path / "run" / "model"
    assert {p.relative_to(made.out).as_posix() for p in made.out.rglob("*") if p.is_file()} == {
        "onnx/encoder_model.onnx", "onnx/decoder_model.onnx", "onnx/decoder_with_past_model.onnx", "config.json",
        "tokenizer.json"}  # fmt: skip
    assert sum(p.stat().st_size for p in models(made.out)) == winner.size_bytes
    record = json.loads((tmp_path / "run" / "parts.json").read_text())
    assert record["tried"][-1]["reason"] == ""
    # The stated drop is that of the files that were written.
    ids = sentences(60)["input_ids"]
    kept = []
    for row in ids:
        tokens = [3]
        for _ in range(5):
            tokens.append(int(by_hand(source, row[None], tokens)[-1].argmax()))
            if tokens[-1] == 39:
                break
        one, other = (by_hand(place, row[None], tokens[:-1]).astype(np.float64) for place in (source, made.out))
        shares = [x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (one, other)]
        kept.append((np.exp(shares[0]) * (shares[0] - shares[1])).sum(axis=1))
    assert 1 - np.exp(-np.concatenate(kept).mean()) == pytest.approx(winner.drop.value, abs=0.02)


def test_a_budget_of_nothing_leaves_the_folder_as_it_is(source: Path, tmp_path: Path, cli) -> None:
    made = optimize_parts(source, sentences(40), out=tmp_path / "run", max_drop=1e-12, **FAST)
    assert (made.out, made.found.winner) == (None, None)
    assert not (tmp_path / "run" / "model").exists()
    assert "No combination of forms" in made.document.blocks[1].lines[-1]


def measured(part: str, name: str, drop: float, saved: float) -> MeasuredForm:
    return MeasuredForm(PartForm(part, name, "", {}), drop, saved, int(saved))


def test_combinations_share_the_budget_and_the_largest_gain_comes_first() -> None:
    forms = [
        measured("encoder", "a", 0.004, 5),
        measured("encoder", "b", 0.008, 9),
        measured("decoder", "a", 0.005, 20),
        measured("decoder", "b", 0.02, 90),
        measured("decoder", "c", 0.0, -1),
    ]
    found = [[one.form.part[0] + one.form.name for one in some] for some in choices(forms, Goal.LATENCY, 0.01)]
    assert found == [["ea", "da"], ["da"], ["eb"], ["ea"]]


def test_forms_that_are_not_faster_change_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = timing.measure_speed

    def timed(chains, *rest, **options):
        found = plain(chains, *rest, **options)
        return {name: next(iter(found.values())) for name in found}

    monkeypatch.setattr(timing, "measure_speed", timed)
    made = optimize_parts(source, sentences(40), out=tmp_path / "run", max_drop="20pp", **FAST)
    assert (made.out, made.found.tried) == (None, ())


def test_an_unsure_clock_or_a_drop_on_other_texts_wins_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = timing.measure_speed

    def unsure(chains, *rest, **options):
        found = plain(chains, *rest, **options)
        return {name: replace(one, text_speedup=None, text_unsure="a busy host") for name, one in found.items()}

    monkeypatch.setattr(timing, "measure_speed", unsure)
    made = optimize_parts(source, sentences(40), out=tmp_path / "run", max_drop="20pp", **FAST)
    assert made.out is None
    assert {one.reason for one in made.found.tried} == {"a busy host"}
    assert len(made.found.tried) == 3


def test_a_folder_of_onnxruntime_genai_reads_texts_and_its_configuration_stays_true(tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    save(causal(), folder / "text.onnx")
    config = {"model": {"type": "gpt2", "bos_token_id": 1, "decoder": {"filename": "text.onnx"}}}
    (folder / "genai_config.json").write_text(json.dumps(config))
    ids = np.array(texts(40))
    data = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.tile(np.arange(12), (40, 1))}
    made = optimize_parts(folder, data, out=tmp_path / "run", max_drop="50pp", **FAST)
    assert {one.form.part for one in made.found.alone} == {"decoder"}
    assert made.found.winner is not None
    assert made.out is not None
    assert (made.out / "genai_config.json").read_bytes() == (folder / "genai_config.json").read_bytes()
    assert list(file_names(made.out / "genai_config.json")) == ["text.onnx"]
    assert (made.out / "text.onnx").stat().st_size < (folder / "text.onnx").stat().st_size
    onnxopt.generation({"old": folder / "text.onnx", "new": made.out / "text.onnx"}, prompt_tokens=4, new_tokens=2,
                       seconds=0.01)  # fmt: skip


def test_models_that_read_no_text_together_are_refused(tmp_path: Path, source: Path) -> None:
    save(pair(), source / "onnx" / "other.onnx")
    with pytest.raises(UsageError, match=r"ONX112.*may all be the encoder"):
        parts_of(source, models(source))
    with pytest.raises(UsageError, match=r"ONX112.*no model takes tokens"):
        parts_of(source, [source / "onnx" / "encoder_model.onnx"])
    with pytest.raises(UsageError, match=r"ONX112.*time_limit_s"):
        optimize_parts(source, sentences(9), out=tmp_path / "run", time_limit_s=5)
    (tmp_path / "run" / "model").mkdir(parents=True)
    with pytest.raises(FileError, match="ONX502"):
        optimize_parts(source, sentences(9), out=tmp_path / "run")


def test_the_command_takes_the_folder(source: Path, tmp_path: Path, cli) -> None:
    lines = [json.dumps({"text": " ".join(f"w{i}" for i in row)}) for row in sentences(40)["input_ids"]]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines) + "\n")
    words = [
        "--data",
        tmp_path / "texts.jsonl",
        "--out",
        tmp_path / "run",
        "--max-drop",
        "20pp",
        "--latency-seconds",
        "0.05",
    ]
    ended = cli("optimize", source, *words, "--goal", "size")
    assert ended.code == 0, ended.err
    assert "Winner (" in ended.out
    assert (tmp_path / "run" / "model" / "onnx" / "encoder_model.onnx").is_file()


@pytest.mark.parametrize("option", [("--task", "tokens"), ("--dry-run",), ("--calibration", "random")])
def test_an_option_of_single_models_is_refused(source: Path, tmp_path: Path, cli, option: tuple[str, ...]) -> None:
    ended = cli("optimize", source, "--data", "random", "--out", tmp_path / "run", *option)
    assert ended.code == 2
    assert "ONX112" in ended.err
    assert option[0] in ended.err
    assert not (tmp_path / "run").exists()
