"""Files of encoder and decoders are judged on what the folder reads, and an encoder by the answers behind it."""

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import onnxopt
from onnxopt.model_file import save
from onnxopt.tasks.variants.audit import Audit, audit
from onnxopt.tasks.variants.reference import Reference, Terms
from onnxopt.tasks.variants.together import DecoderInputs, Reading, opened_beside, opened_in, readings_of
from onnxopt.tasks.variants.verdict import JudgedFile, Standing
from tests.tasks.parts import seq2seq
from tests.tasks.parts.merged import merged
from tests.tasks.parts.seq2seq import HIDDEN, ROWS, WIDTH, folder_of, sentences
from tests.tasks.variants.published import made, with_weight

INT8 = "quantize-dynamic{weight_type=uint8,reduce_range=no}"
DECODERS = ("decoder_model", "decoder_with_past_model")


def last(model: ir.Model) -> str:
    return next(n for n, v in model.graph.initializers.items() if tuple(v.shape or ()) == (HIDDEN, WIDTH))


def encoder(factor: float = 20) -> ir.Model:
    """Return an encoder on whose output the answers depend."""
    model = seq2seq.encoder()
    return with_weight(model, last(model), lambda a: a * factor)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = folder_of(tmp_path / "repo")
    save(encoder(), place / "onnx" / "encoder_model.onnx", overwrite=True)
    return place


def models(folder: Path, *names: str) -> list[Path]:
    return [folder / "onnx" / f"{name}.onnx" for name in names]


def reading(folder: Path) -> Reading:
    (found,) = readings_of(folder, models(folder, "encoder_model", *DECODERS), Terms(sentences(6)))
    return found


def of(found: Audit, name: str) -> JudgedFile:
    return next(one for one in found.files if one.path.name == name)


def words(found: Audit) -> str:
    return "\n".join(found.document.blocks[1].lines)


def run(path: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def test_decoders_get_what_the_encoder_and_the_first_decoder_give(folder: Path) -> None:
    found = reading(folder)
    first, later = (DecoderInputs(found, (step,)) for step in (False, True))
    tokens = found.texts[4].tokens
    given = {name: array[4:5] for name, array in sentences(6).items()}
    hidden = run(*models(folder, "encoder_model"), given)["last_hidden_state"]
    feeds = dict(first.read(4))
    np.testing.assert_array_equal(feeds["input_ids"], tokens[None, :-1])
    np.testing.assert_allclose(feeds["encoder_hidden_states"], hidden)
    half = len(tokens) // 2
    cache = run(*models(folder, DECODERS[0]), {**feeds, "input_ids": tokens[None, :half]})
    step = later.read(4)
    np.testing.assert_array_equal(step["input_ids"], tokens[None, half : half + 1])
    for name in (f"0.{kind}.{role}" for kind in ("decoder", "encoder") for role in ("key", "value")):
        np.testing.assert_allclose(step[f"past_key_values.{name}"], cache[f"present.{name}"], rtol=1e-4, atol=1e-5)


def test_a_merged_decoder_gets_first_and_later_tokens_and_the_pair_beside_it_too(folder: Path) -> None:
    save(merged(), folder / "onnx" / "decoder_model_merged.onnx")
    files = models(folder, "encoder_model", "decoder_model_merged", *DECODERS)
    found = readings_of(folder, files, Terms(sentences(3)))
    assert [[path.stem for path in one.decoders] for one in found] == [["decoder_model_merged"], list(DECODERS)]
    opened = opened_in(files[1], Terms(), found)
    assert isinstance(opened, Reference)
    steps = [batch.feeds for batch in opened.samples.batches()]
    assert [bool(one["use_cache_branch"][0]) for one in steps] == [False, True] * 3
    assert [one["past_key_values.0.decoder.key"].shape[1] > 0 for one in steps] == [False, True] * 3


def test_an_encoder_is_judged_by_the_answers_behind_it(folder: Path) -> None:
    # Half of the numbers of the encoder are never read: errors there are no loss.
    decoders = {name: seq2seq.decoder(past="past" in name) for name in DECODERS}
    unread = np.arange(WIDTH) % 2 == 0
    for name, model in decoders.items():
        for part in list(model.graph.initializers.values()):
            if any(node.inputs[0].name == "encoder_hidden_states" for node, _ in part.uses()):
                with_weight(model, str(part.name), lambda a: a * ~unread[:, None])
        save(model, folder / "onnx" / f"{name}.onnx", overwrite=True)
    model = encoder()
    spoiled = with_weight(model, last(model), lambda a: a + 3 * unread)
    save(spoiled, folder / "onnx" / "encoder_model_int8.onnx")
    found = audit(folder, sentences(24))
    assert of(found, "encoder_model_int8.onnx").standing is Standing.GOOD
    assert "encoder_model.onnx: Judged by the answers of decoder_model.onnx and decoder_with_past_model.onnx" in words(
        found
    )
    for path in models(folder, *DECODERS):
        path.unlink()
    alone = audit(folder, sentences(24))
    assert of(alone, "encoder_model_int8.onnx").standing is Standing.OVER
    assert "Judged by the answers" not in words(alone)


FAULTS = {
    "noise": (lambda a: np.random.RandomState(3).standard_normal(a.shape) * 10, "near chance"),
    "NaN": (lambda a: a * np.nan, "NaN or infinite values"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("given", [False, True])
def test_a_broken_encoder_is_found(folder: Path, fault: str, given: bool) -> None:
    change, reason = FAULTS[fault]
    save(with_weight(encoder(), last(encoder()), change), folder / "onnx" / "encoder_model_q4.onnx")
    found = audit(folder, sentences(24) if given else None)
    broken = of(found, "encoder_model_q4.onnx")
    assert (broken.standing, found.passed) == (Standing.BROKEN, False)
    assert reason in broken.reason
    assert given is not ("made-up inputs; on real data" in words(found))


def test_another_model_under_the_name_of_an_encoder_is_broken(folder: Path) -> None:
    save(seq2seq.decoder(past=False), folder / "onnx" / "encoder_model_q4.onnx")
    found = audit(folder, sentences(4))
    assert "does not run" in of(found, "encoder_model_q4.onnx").reason


def test_where_answers_hardly_depend_on_the_encoder_its_outputs_decide(folder: Path) -> None:
    save(encoder(1), folder / "onnx" / "encoder_model.onnx", overwrite=True)
    for kind, change in {"int8": lambda a: a * 1.001, "q4": lambda a: -a}.items():
        save(with_weight(encoder(1), last(encoder()), change), folder / "onnx" / f"encoder_model_{kind}.onnx")
    found = audit(folder, sentences(24))
    assert of(found, "encoder_model_int8.onnx").standing is Standing.GOOD
    assert of(found, "encoder_model_q4.onnx").standing is Standing.UNSURE


def test_an_encoder_that_gives_float16_is_read(folder: Path) -> None:
    model = encoder()
    (output,) = model.graph.outputs
    node = ir.node("Cast", [output], attributes={"to": int(ir.DataType.FLOAT16)})
    output.name, node.outputs[0].name = "wide", "last_hidden_state"
    node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT16, output.shape
    model.graph.append(node)
    model.graph.outputs[0] = node.outputs[0]
    save(model, folder / "onnx" / "encoder_model_fp16.onnx")
    assert of(audit(folder, sentences(24)), "encoder_model_fp16.onnx").standing is Standing.GOOD


def test_variants_of_one_part_are_judged_in_its_folder(folder: Path) -> None:
    path = folder / "onnx" / "encoder_model.onnx"
    made = onnxopt.variants(path, "transformers.js", sentences(24), only=["int8"], overwrite=True)
    lines = "\n".join(made.document.blocks[1].lines)
    assert "Judged by the answers of decoder_model.onnx" in lines
    assert made.card is not None
    assert "Judged by the answers" in made.card.read_text()
    inside = opened_beside(folder / "onnx" / "decoder_model.onnx", Terms(sentences(4)))
    assert "its inputs while the folder reads" in inside.words


def test_texts_are_read_with_the_tokenizer_of_the_folder(folder: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"text": " ".join(f"w{(i + j) % ROWS}" for j in range(5))}) for i in range(12)]
    (tmp_path / "texts.jsonl").write_text("\n".join(rows))
    save(made(INT8, encoder), folder / "onnx" / "encoder_model_int8.onnx")
    found = audit(folder, tmp_path / "texts.jsonl")
    assert "12 samples of texts.jsonl" in words(found)


def test_samples_of_a_decoder_are_taken_for_it(folder: Path) -> None:
    rng, ids = np.random.default_rng(0), sentences(5)["input_ids"]
    arrays = {"input_ids": ids, "encoder_attention_mask": np.ones_like(ids),
              "encoder_hidden_states": rng.normal(size=(*ids.shape, WIDTH)).astype(np.float32)}  # fmt: skip
    save(made(INT8, lambda: seq2seq.decoder(past=False)), folder / "onnx" / "decoder_model_int8.onnx")
    found = audit(folder, arrays)
    assert of(found, "decoder_model_int8.onnx").standing is Standing.GOOD
    assert "5 samples" in words(found)


def test_models_that_read_no_text_together_are_judged_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(encoder(), tmp_path / f"{name}.onnx")
    assert readings_of(tmp_path, [tmp_path / "a.onnx", tmp_path / "b.onnx"], Terms()) == ()
    assert readings_of(tmp_path, [tmp_path / "a.onnx"], Terms()) == ()
