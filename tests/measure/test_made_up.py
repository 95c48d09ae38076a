"""Made-up inputs of models as Transformers exports them, and the fallback where the names say nothing."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.errors import UsageError
from onnxopt.measure.made_up import COUNT, LENGTH, made_up_samples, usual_texts
from onnxopt.measure.runtime.session import Session
from onnxopt.model_file import save
from onnxopt.options.lengths import USUAL_LENGTH
from onnxopt.options.runtime import Runtime
from onnxopt.options.search import SearchOptions
from onnxopt.run.job import prepare
from onnxopt.tasks.benchmark import benchmark
from onnxopt.tasks.benchmark_runs import inputs_of
from onnxopt.tasks.repair import repair
from tests.builders import I64, F, Net
from tests.repairs.quantized import clock
from tests.tasks.variants.published import ROWS, decoder, encoder


def test_token_numbers_are_of_the_whole_table_and_nothing_is_masked() -> None:
    samples = made_up_samples(encoder(), Runtime())
    assert len(samples) == COUNT
    feeds = next(iter(samples.with_batch_size(COUNT)))
    assert feeds["input_ids"].shape == (COUNT, LENGTH)
    assert set(np.unique(feeds["input_ids"])) == set(range(ROWS))
    assert feeds["attention_mask"].min() == 1


def test_a_cache_is_empty_and_positions_count_up() -> None:
    model = decoder()
    samples = made_up_samples(model, Runtime())
    feeds = next(iter(samples.with_batch_size(2)))
    assert feeds["past_key_values.0.key"].shape == (2, 0, 8)
    assert feeds["attention_mask"].shape == (2, LENGTH)
    np.testing.assert_array_equal(feeds["position_ids"], [np.arange(LENGTH)] * 2)
    logits, present = Session(model, Runtime()).run(feeds)
    assert np.isfinite(logits).all()
    assert present.shape == (2, LENGTH, 8)


def test_the_same_inputs_are_made_up_again() -> None:
    first, second = (next(iter(made_up_samples(decoder(), Runtime()))) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_where_the_names_mislead_inputs_are_random() -> None:
    # A table of 4 rows behind a node that is no look-up of the input itself: only 0 and 1 are safe.
    net = Net(1)
    doubled = net.node("Add", "input_ids", "input_ids")
    net.node("Gather", net.weight(4, 3), doubled, axis=0, out="y")
    model = net.model([("input_ids", I64, ["batch", 2])], [("y", F, ["batch", 2, 3])], opset=13)
    feeds = next(iter(made_up_samples(model, Runtime())))
    assert feeds["input_ids"].max() <= 1
    fixed = Net(2)
    fixed.node("Add", "mask", fixed.const(np.ones((2, 2), np.float32)), out="y")
    odd = fixed.model([("mask", F, ["past", "past"])], [("y", F, ["a", "b"])], opset=13)
    assert made_up_samples(odd, Runtime()).name == "random"


def test_a_model_that_runs_on_none_says_that_samples_are_needed() -> None:
    net = Net(1)
    net.node("Add", "x", net.const(np.ones((1, 977), np.float32)), out="y")
    model = net.model([("x", F, ["batch", "width"])], [("y", F, ["batch", 977])], opset=13)
    with pytest.raises(UsageError, match=r"ONX114.*--data"):
        made_up_samples(model, Runtime())


def test_a_limit_is_heeded() -> None:
    assert len(made_up_samples(encoder(), Runtime(), 5)) == 5


def test_a_text_for_timing_has_the_usual_length():
    texts = usual_texts(encoder(), Runtime(), 5)
    assert texts is not None
    assert len(texts) == 5
    assert texts.read(0)["input_ids"].shape == (USUAL_LENGTH,)
    assert texts.name == "random"


def positions(rows: int) -> ir.Model:
    """Return a model of texts with a table of positions, a part of which is added to the tokens."""
    net = Net(3)
    tokens = net.node("Gather", net.weight(50, 4), "input_ids", axis=0)
    length = net.node("Slice", net.node("Shape", "input_ids"), net.ints(1), net.ints(2))
    table = net.node("Slice", net.weight(rows, 4), net.ints(0), length, net.ints(0))
    net.node("Add", tokens, table, out="y")
    return net.model([("input_ids", I64, ["batch", "sequence"])], [("y", F, ["batch", "sequence", 4])], opset=13)


@pytest.mark.parametrize(("rows", "length"), [(512, 128), (77, 77), (24, 24), (4, None)])
def test_it_is_as_long_as_the_table_of_positions(rows: int, length: int | None):
    texts = usual_texts(positions(rows), Runtime())
    assert (None if texts is None else texts.length) == length


def test_a_cache_is_empty_behind_a_text_of_usual_length():
    texts = usual_texts(decoder(), Runtime())
    assert texts is not None
    feeds = texts.read(0)
    assert feeds["past_key_values.0.key"].shape[0] == 0
    assert len(feeds["input_ids"]) == len(feeds["attention_mask"]) == texts.length > LENGTH


def test_other_models_have_no_text():
    net = Net(1)
    net.node("Relu", "x", out="y")
    assert usual_texts(net.model([("x", F, ["batch", "sequence"])], [("y", F, ["batch", "s"])]), Runtime()) is None
    fixed = Net(1)
    fixed.node("Cast", "ids", to=F, out="y")
    assert usual_texts(fixed.model([("ids", I64, ["batch", 16])], [("y", F, ["batch", 16])]), Runtime()) is None


def test_commands_that_time_without_data_take_texts_of_usual_length(tmp_path):
    path = save(encoder(), tmp_path / "m.onnx")[0]
    assert "input_ids 1x128" in " ".join(str(benchmark(path, seconds=0.02)).split())
    assert "input_ids 1x128" in repair(path, dry_run=True, clock=clock(1.0)).inputs
    assert inputs_of(encoder(), None, Runtime()).length == USUAL_LENGTH
    assert inputs_of(encoder(), "mine.npz", Runtime()) == "mine.npz"
    job = prepare(path, "random:40", SearchOptions())
    assert next(iter(job.parts.search))["input_ids"].shape[1] == USUAL_LENGTH
    assert len(job.parts.search) + len(job.parts.holdout) + len(job.parts.calibration) == 40
    assert job.parts.search.name.startswith("random:40")
