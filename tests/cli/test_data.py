"""`onnxopt data` writes a file that every command reads, whole or not at all, and says what it assumed."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import onnxopt
from onnxopt import model_file
from onnxopt.errors import DataError, FileError
from onnxopt.model_file import signature_of
from onnxopt.samples import ReadOptions, open_samples
from tests import builders
from tests.cli.conftest import MODELS
from tests.samples.waves import tone, write
from tests.tasks.streaming import voice_detector

F, I64 = builders.F, builders.I64


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _pictures(count: int = 6) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow writes the pictures")
    for number in range(count):
        folder = Path("photos", "cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((20, 30, 3), 40 * number % 256, np.uint8)
        image.fromarray(pixels).save(folder / f"{number}.png")


def _classifier() -> None:
    model_file.save(builders.BUILDERS["residual_cnn"](), "m.onnx")


def _encoder(length: int | str = "time") -> None:
    net = builders.Net(1)
    mean = net.node("ReduceMean", net.node("Gather", net.weight(5, 8), "input_ids"), axes=[1], keepdims=0)
    net.node("Gemm", mean, net.weight(2, 8), net.weight(2), transB=1, out="y")
    inputs = [("input_ids", I64, ["batch", length]), ("attention_mask", I64, ["batch", length])]
    model_file.save(net.model(inputs, [("y", F, ["batch", 2])], opset=13), "m.onnx")
    Path("vocab.json").write_text(json.dumps({"vocab": ["[PAD]", "[UNK]", "[CLS]", "good", "bad"]}))
    Path("reviews.csv").write_text("text,label\ngood film,1\nbad,0\nnot so good,1\nbad bad,0\n")


def test_pictures_are_written_as_the_model_takes_them(cli):
    _classifier()
    _pictures()
    ended = cli("data", "photos", "--for", "m.onnx", "--mean", "0.5", "--std", "0.25", "--format", "json")
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert (said["samples"], said["labels"]) == (6, "2 classes, 0 to 1")
    assert said["first_sample"][0]["shape"] == [1, 3, 8, 8]
    assert "Images: RGB, to 8 x 8 by squash, NCHW." in said["assumed"]
    assert "Pixels: divided by 255, minus 0.5, divided by 0.25." in said["assumed"]
    with np.load("samples.npz") as arrays:
        assert list(arrays["y"]) == [0, 0, 0, 1, 1, 1]  # cat, dog
        greys = np.array([1, 3, 5, 0, 2, 4]) * 40 / 255
        assert arrays["x"].mean(axis=(1, 2, 3)) == pytest.approx((greys - 0.5) / 0.25, abs=1e-5)
    first = said["first_sample"][0]
    assert (first["least"], first["mean"]) == pytest.approx(((40 / 255 - 0.5) / 0.25,) * 2)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("7", "12"), "Labels: the folders' names are numbers, and 12 is class 0."),
        (("0", "3"), "Labels: the folders' names are numbers, and 3 is class 1."),
        (("0", "1"), ""),
        (("cat", "12"), ""),
    ],
)
def test_folders_that_are_named_by_other_numbers_than_they_get_are_pointed_out(cli, names, said):
    _classifier()
    _pictures()
    for before, after in zip(("cat", "dog"), names, strict=True):
        (Path("photos") / before).rename(Path("photos") / after)
    ended = cli("data", "photos", "--for", "m.onnx", "--format", "json")
    assert ended.code == 0, ended.err
    found = [one for one in json.loads(ended.out)["assumed"] if one.startswith("Labels: the folders")]
    assert [one.startswith(said) for one in found] == ([True] if said else [])


def test_the_file_holds_what_the_source_gives_and_the_next_command_takes_it(cli):
    _classifier()
    _pictures(12)
    said = json.loads(cli("data", "photos", "--for", "m.onnx", "-o", "mine.npz", "--format", "json").out)
    signature = signature_of(model_file.load("m.onnx"))
    direct, read = open_samples("photos", signature), open_samples("mine.npz", signature)
    assert direct.fingerprint == read.fingerprint
    assert said["next"] == "onnxopt optimize m.onnx --data mine.npz"
    assert cli(*shlex.split(said["next"])[1:], "--dry-run").code == 0


def test_the_accuracy_is_checked_before_the_search_where_there_are_labels(cli, mlp):
    np.savez("raw.npz", X=np.zeros((20, 64), np.float32), y=np.arange(20) % 10)
    said = " ".join(cli("data", "raw.npz", "--for", mlp, "-o", "made.npz").out.split())
    assert (
        f"Is it as accurate on them as in training? onnxopt evaluate {mlp} --data made.npz Next: onnxopt optimize"
        in said
    )
    np.savez("bare.npz", X=np.zeros((20, 64), np.float32))
    assert "evaluate" not in cli("data", "bare.npz", "--for", mlp, "-o", "other.npz").out


def test_text_of_a_fixed_length_is_one_file_and_of_free_length_a_folder(cli):
    _encoder(4)
    ended = cli("data", "reviews.csv", "--for", "m.onnx", "--vocab", "vocab.json")
    assert ended.code == 0, ended.err
    assert "cut or filled up to 4 tokens" in ended.out
    with np.load("samples.npz") as arrays:
        assert arrays["input_ids"].tolist()[1] == [2, 4, 0, 0]
        assert arrays["attention_mask"].tolist()[1] == [1, 1, 0, 0]
    for file in ("m.onnx", "samples.npz"):
        Path(file).unlink()
    _encoder()
    ended = cli("data", "reviews.csv", "--for", "m.onnx", "--vocab", "vocab.json")
    assert ended.code == 0, ended.err
    assert "A folder with a file per sample, because the samples differ in shape" in " ".join(ended.out.split())
    signature = signature_of(model_file.load("m.onnx"))
    direct = open_samples("reviews.csv", signature, options=ReadOptions(vocab="vocab.json"))
    assert open_samples("samples", signature).fingerprint == direct.fingerprint


def test_a_named_file_that_cannot_hold_the_samples_is_refused(cli):
    _encoder()
    ended = cli("data", "reviews.csv", "--for", "m.onnx", "--vocab", "vocab.json", "-o", "s.npz")
    assert ended.code == 2
    assert ended.err.startswith("ONX203: the samples differ in shape, and one file cannot hold them")
    assert "-o samples" in ended.err
    assert not list(Path().glob("*s.npz*"))


@pytest.mark.parametrize("table", ["a,b\n1,2\n3,4\n", '{"a": [1, 2, 3], "b": [0, 1]}\n{"a": [4, 5, 6], "b": [1, 1]}\n'])
def test_tables_feed_one_input_or_several(cli, table):
    net = builders.Net(0)
    if table.startswith("{"):
        net.node("Relu", net.node("Add", net.node("ReduceSum", "a"), net.node("Cast", "b", to=F)), out="y")
        model = net.model([("a", F, ["n", 3]), ("b", I64, ["n", 2])], [("y", F, ["n", 2])], opset=11)
    else:
        net.node("Relu", "x", out="y")
        model = net.model([("x", F, ["n", 2])], [("y", F, ["n", 2])])
    model_file.save(model, "m.onnx")
    name = "t.jsonl" if table.startswith("{") else "t.csv"
    Path(name).write_text(table)
    assert cli("data", name, "--for", "m.onnx").code == 0
    with np.load("samples.npz") as arrays:
        if name == "t.csv":
            assert arrays["x"].tolist() == [[1, 2], [3, 4]]
        else:
            assert arrays["a"].tolist() == [[1, 2, 3], [4, 5, 6]]
            assert (arrays["b"].tolist(), arrays["b"].dtype) == ([[0, 1], [1, 1]], np.int64)


def test_images_of_a_size_at_which_the_model_fails_are_not_written(cli):
    net = builders.Net(0)
    few = net.node("MaxPool", "x", kernel_shape=[8, 8], strides=[8, 8])
    net.node("Concat", "x", net.node("Resize", few, "", net.const(np.float32([1, 1, 8, 8]))), axis=1, out="y")
    image, both = ["n", 3, "height", "width"], ["n", 6, "height", "width"]
    model_file.save(net.model([("x", F, image)], [("y", F, both)], opset=13), "m.onnx")
    _pictures()
    ended = cli("data", "photos", "--for", "m.onnx")
    assert ended.code == 4
    assert ended.err.startswith("ONX401: the model does not run on the first sample")
    said = " ".join(ended.err.split())
    assert "here 20x30. The model runs at 32x32: add --size 32x32" in said
    assert not Path("samples.npz").exists()
    assert cli("data", "photos", "--for", "m.onnx", "--size", "32x32").code == 0


def test_made_up_samples_are_called_so(cli):
    shutil.copy(MODELS / "digits_mlp.onnx", "m.onnx")
    ended = cli("data", "random:5", "--for", "m.onnx", "--limit", "3")
    assert "Made-up numbers: good for latency, not for accuracy" in ended.out
    with np.load("samples.npz") as arrays:
        assert arrays["X"].shape == (3, 64)


def test_a_sound_model_reads_sound(cli):
    pytest.importorskip("soundfile", reason="libsndfile decodes sound")
    model_file.save(voice_detector(), "vad.onnx")
    for number in range(4):
        write(Path(f"sounds/{number}.wav"), tone(3200, hz=200 + 100 * number))
    ended = cli("data", "sounds", "--for", "vad.onnx")
    assert ended.code == 0, ended.err
    assert "Sound: 16000 Hz, as the files are; one channel." in ended.out
    assert "Sound: windows of 160 samples" in ended.out
    said = " ".join(ended.out.split())
    assert "States: state takes stateN of the step before; zeros at the beginning of each file." in said
    assert cli("optimize", "vad.onnx", "--data", "samples.npz", "--dry-run").code == 0


def test_a_sound_model_that_declares_any_window_and_takes_one_says_which_options_to_name(cli):
    pytest.importorskip("soundfile", reason="libsndfile decodes sound")
    model_file.save(voice_detector(window=None, runs_at=160), "vad.onnx")
    write(Path("sounds/0.wav"), tone(3200, hz=200))
    ended = cli("data", "sounds", "--for", "vad.onnx")
    assert ended.code == 4
    assert ended.err.startswith("ONX401: the model does not run on the sound")
    said = " ".join(ended.err.split())
    assert "It was given whole clips at 16000 Hz." in said
    assert "--sample-rate 16000 --window 512" in said
    assert cli("data", "sounds", "--for", "vad.onnx", "--window", "160").code == 0


def test_nothing_is_left_of_samples_that_end_in_an_error(cli):
    shutil.copy(MODELS / "digits_mlp.onnx", "m.onnx")
    x = np.ones((6, 64), np.float32)
    x[5, 3] = np.nan
    np.save("x.npy", x)
    before = sorted(Path().iterdir())
    for out in ("s.npz", "folder"):
        ended = cli("data", "x.npy", "--for", "m.onnx", "-o", out)
        assert (ended.code, ended.err[:6]) == (2, "ONX207")
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("out", "code"),
    [
        ("there.npz", "ONX502"),
        ("full", "ONX502"),
        ("x.npy", "ONX101"),
        ("m.onnx", "ONX101"),
        ("no/such/s.npz", "ONX503"),
        ("no/such/folder", "ONX503"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(cli, out, code, monkeypatch):
    monkeypatch.setattr("onnxopt.tasks.data.make.open_samples", lambda *_, **__: pytest.fail("it worked in vain"))
    shutil.copy(MODELS / "digits_mlp.onnx", "m.onnx")
    Path("there.npz").write_bytes(b"mine")
    Path("full").mkdir()
    ended = cli("data", "random", "--for", "m.onnx", "-o", out)
    assert ended.err.startswith(code)
    assert Path("there.npz").read_bytes() == b"mine"


def test_overwrite_replaces_a_file_but_never_the_source(cli):
    shutil.copy(MODELS / "digits_mlp.onnx", "m.onnx")
    assert cli("data", "random:3", "--for", "m.onnx").code == 0
    assert cli("data", "random:4", "--for", "m.onnx", "--overwrite").code == 0
    with np.load("samples.npz") as arrays:
        assert len(arrays["X"]) == 4
    assert cli("data", "samples.npz", "--for", "m.onnx", "--overwrite").err.startswith("ONX504")
    assert cli("data", "samples.npz", "--for", "m.onnx", "-o", "samples").code == 0
    with pytest.raises(FileError, match=r"ONX502.*never replaced"):
        onnxopt.data("random:4", "m.onnx", out="samples", overwrite=True)


def test_boxes_stay_in_their_own_file(cli):
    _classifier()
    _pictures()
    Path("boxes.json").write_text("{}")
    ended = cli("data", "photos", "--for", "m.onnx", "--labels", "boxes.json")
    assert ended.err.startswith("ONX112: boxes and masks stay in their own files")


def test_more_than_an_archive_may_hold_goes_to_a_folder(cli, monkeypatch):
    shutil.copy(MODELS / "digits_mlp.onnx", "m.onnx")
    monkeypatch.setattr("onnxopt.tasks.data.written.most_bytes", lambda: 64 * 4 * 3)
    assert onnxopt.data("random:3", "m.onnx", out="small.npz").path == Path("small.npz")
    made = onnxopt.data("random:4", "m.onnx", labels=np.arange(4))
    assert made.path == Path("samples")
    assert sorted(file.name for file in made.path.iterdir()) == [f"{i}.npz" for i in range(4)]
    with pytest.raises(DataError, match="ONX203: the samples are too large for one file"):
        onnxopt.data("random:4", "m.onnx", out="large.npz")
    again = open_samples(made.path, signature_of(model_file.load("m.onnx")))
    assert list(again.labels) == [0, 1, 2, 3]


def test_text_and_small_floats_survive(cli):
    net = builders.Net(0)
    net.node("Identity", "words", out="same")
    net.node("Cast", "half", to=F, out="y")
    inputs = [("words", builders.TensorProto.STRING, ["n", 2]), ("half", builders.TensorProto.BFLOAT16, ["n", 2])]
    outputs = [("same", builders.TensorProto.STRING, ["n", 2]), ("y", F, ["n", 2])]
    model = net.model(inputs, outputs)
    words = np.array([["a", "bc"], ["long word", ""]])
    onnxopt.data({"words": words, "half": np.array([[0.5, -2], [3, 4]], np.float32)}, model)
    samples = open_samples("samples.npz", signature_of(model))
    assert samples.source.read(1)["words"].tolist() == ["long word", ""]
    assert samples.source.read(0)["half"].astype(float).tolist() == [0.5, -2]


def test_only_one_sample_is_in_memory(monkeypatch):
    """The file is written while the samples are read: no more than a few of them exist at a time."""
    import tracemalloc

    net = builders.Net(0)
    net.node("Relu", "x", out="y")
    model = net.model([("x", F, ["n", 1 << 18])], [("y", F, ["n", 1 << 18])])
    tracemalloc.start()
    onnxopt.data("random:40", model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert Path("samples.npz").stat().st_size > 40 << 20
    assert peak < 20 << 20


def test_a_notebook_shows_the_first_sample():
    shutil.copy(MODELS / "digits_mlp.onnx", "m.onnx")
    made = onnxopt.data("random:3", "m.onnx")
    assert "First sample, as the model sees it" in made._repr_html_()
    assert made.first[0].shape == (1, 64)
