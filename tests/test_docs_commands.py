"""Every command that a page shows does what the page says, or is run by the test that is named here."""

import json
import re
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from onnxopt import model_file
from onnxopt.cli.entry import main
from tests import builders
from tests.measure.generation.decoders import VOCABULARY, causal, grouped, texts
from tests.samples.waves import tone, write
from tests.tasks.parts import seq2seq
from tests.tasks.streaming import voice_detector
from tests.tasks.variants.published import ROWS, published, samples

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "quickstart": "tests/test_docs.py",
    "calibration": "tests/test_docs.py",
    "arm": "tests/test_docs.py",
    "recipes": "tests/test_recipes.py",
    "pipelines": "tests/test_pipelines.py",
    "export": "tests/exporters/test_guide.py",
    "cluster": "tests/search/workers/test_cluster.py",
    "python": "tests/test_api.py",
    "writing-a-pass": "tests/testing/test_guide.py",
    "errors": "tests/test_errors.py",
}
"""Pages whose commands need more than a folder of files."""
MAY_FIND_NOTHING = ("optimize", "compare", "evaluate", "distill", "finetune")
"""Exit code 1 of these says that a limit was not met or nothing was gained, which depends on the machine."""
NOT_HERE = ("ssh://", "local://", "--open")
"""Boards and other Pythons are tests/measure/device's, and a browser is tests/report/test_browser's."""


def commands_of(page: Path) -> list[str]:
    """Return the lines of code blocks, fenced or indented, that run onnxopt."""
    text = page.read_text().replace("\\\n", " ")
    fenced = [line for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    indented = re.findall(r"^ {4}(.*)$", text, re.M)
    lines = [line.removeprefix("$ ") for line in (*fenced, *indented)]
    return [re.split(r"\s{2,}#", line)[0] for line in lines if re.match(r"onnxopt [a-z-]+( |$)", line)]


def pages() -> dict[str, list[str]]:
    found = {
        page.stem: commands_of(page) for page in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "AGENTS.md"]
    }
    return {name: commands for name, commands in found.items() if commands}


def digits(folder: Path) -> None:
    """Write the model and the samples that most pages speak of."""
    data = pytest.importorskip("sklearn.datasets", reason="scikit-learn has the digits").load_digits()
    images, labels = (data.images[1000:1064, None] / 16).astype(np.float32), data.target[1000:1064]
    for name in ("model", "teacher", "student"):
        shutil.copy(ROOT / "models/digits_resnet.onnx", folder / f"{name}.onnx")
    for name in ("samples", "train", "test"):
        np.savez(folder / f"{name}.npz", image=images, y=labels)
    np.save(folder / "labels.npy", labels)
    model = model_file.load(folder / "model.onnx")
    weight = next(v for v in model.graph.initializers.values() if v.const_value is not None and len(v.shape) == 4)
    mask = np.ones(weight.const_value.shape.numpy(), np.uint8)
    mask.flat[::2] = 0
    np.savez(folder / "masks.npz", **{str(weight.name): mask})


def digits_and_photos(folder: Path) -> None:
    """Write the digits as pictures too, in a folder per class."""
    image = pytest.importorskip("PIL.Image", reason="Pillow writes the pictures")
    digits(folder)
    with np.load(folder / "samples.npz") as arrays:
        pairs = list(zip(arrays["image"][:, 0], arrays["y"], strict=True))
    for number, (picture, label) in enumerate(pairs):
        (folder / "photos" / f"{label}").mkdir(parents=True, exist_ok=True)
        image.fromarray(np.round(255 * picture).astype(np.uint8)).save(folder / f"photos/{label}/{number}.png")


def pictures_and_sentences(folder: Path) -> None:
    """Write a model of colour pictures in a folder per class, and a model of sentences."""
    image = pytest.importorskip("PIL.Image", reason="Pillow writes the pictures")
    model_file.save(builders.BUILDERS["residual_cnn"](), folder / "model.onnx")
    for label in range(4):
        (folder / "photos" / f"{label}").mkdir(parents=True)
        for number in range(4):
            pixels = np.random.default_rng(10 * label + number).integers(0, 255, (300, 400, 3), np.uint8)
            image.fromarray(pixels).save(folder / "photos" / f"{label}" / f"{number}.png")
    net = builders.Net(1)
    rows = net.node("Gather", net.weight(5, 8), "input_ids")
    mean = net.node("ReduceMean", rows, axes=[1], keepdims=0)
    net.node("Gemm", mean, net.weight(2, 8), net.weight(2), transB=1, out="y")
    ids, scores = ("input_ids", builders.I64, ["batch", "time"]), ("y", builders.F, ["batch", 2])
    model_file.save(net.model([ids], [scores], opset=13), folder / "classifier.onnx")
    model_file.save(voice_detector(), folder / "vad.onnx")
    write(folder / "sounds" / "a.wav", tone(3200))
    words = ["[PAD]", "[UNK]", "[CLS]", "good", "bad"]
    (folder / "vocab.json").write_text(json.dumps({"vocab": words, "regex": "[a-z]+", "max_len": 8}))
    (folder / "reviews.tsv").write_text("good film\t1\nbad film\t0\nnot bad\t1\nbad\t0\n")


def attention(folder: Path) -> None:
    """Write a transformer and sequences for it."""
    model = builders.BUILDERS["transformer_13"]()
    model_file.save(model, folder / "model.onnx")
    arrays = list(builders.samples_of(model, count=16))
    np.savez(folder / "samples.npz", **{name: np.concatenate([a[name] for a in arrays]) for name in arrays[0]})


def sequences(folder: Path) -> None:
    """Write a classifier of sequences of any length, and texts for it."""
    net = builders.Net(1)
    rows = net.node("Gather", net.weight(50, 64), "input_ids")
    mean = net.node("ReduceMean", net.node("MatMul", rows, net.weight(64, 64)), axes=[1], keepdims=0)
    net.node("Gemm", mean, net.weight(2, 64), net.weight(2), transB=1, out="y")
    ids, scores = ("input_ids", builders.I64, ["batch", "time"]), ("y", builders.F, ["batch", 2])
    model_file.save(net.model([ids], [scores], opset=13), folder / "model.onnx")
    np.savez(folder / "texts.npz", input_ids=np.random.default_rng(0).integers(0, 50, (60, 12)))


def run_folders(folder: Path) -> None:
    """Write two finished runs."""
    digits(folder)
    words = ["--data", "samples.npz", "--time-limit", "0.1", "--latency-seconds", "0.05", "--quiet"]
    for name in ("demo", "a", "b", "mine"):
        code = main(["optimize", str(folder / "model.onnx"), *words, "--out", str(folder / "runs" / name)])
        assert code in (0, 1)


def published_model(folder: Path) -> None:
    """Write a model where programs look for it, a file of 8 bits, an encoder with its decoders, and sentences."""
    published(folder / "my-model")
    np.savez(folder / "sentences.npz", **samples())
    _sentences(folder / "sentences.jsonl", samples()["input_ids"], folder / "my-model" / "tokenizer.json", ROWS)
    _translator(folder, "my-translator")


def _translator(folder: Path, *names: str) -> None:
    """Write an encoder with its decoders under each name, and texts for them."""
    for name in names:
        seq2seq.folder_of(folder / name)
    lines = (json.dumps({"text": " ".join(f"w{i}" for i in row)}) for row in seq2seq.sentences(30)["input_ids"])
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")


def decoders(folder: Path) -> None:
    """Write the digits, three decoders with a cache of keys and values, and two encoders with decoders, with texts."""
    digits(folder)
    for name in ("decoder", "decoder_q4"):
        model_file.save(causal(places=256), folder / f"{name}.onnx")
    model_file.save(grouped(), folder / "decoder_gqa.onnx")
    _sentences(folder / "prompts.jsonl", texts(8, 48), folder / "tokenizer.json", VOCABULARY)
    _translator(folder, "my-translator", "my-translator-int8")


def _sentences(path: Path, rows: Iterable[np.ndarray], tokenizer: Path, words: int) -> None:
    """Write rows of token numbers as texts, and the tokenizer that reads them."""
    path.write_text("".join(json.dumps({"text": " ".join(f"w{i}" for i in row)}) + "\n" for row in rows))
    tokenizer.write_text(json.dumps({"vocab": [f"w{i}" for i in range(words)]}))


DESKS = {
    "README": digits_and_photos,
    "AGENTS": digits_and_photos,
    "data": pictures_and_sentences,
    "attention": attention,
    "large-models": decoders,
    "variants": published_model,
    "report": run_folders,
    "search": sequences,
    "devices": run_folders,
}


def here() -> list[str]:
    return sorted(name for name in pages() if name not in ELSEWHERE)


def test_pages_that_are_tested_elsewhere_are() -> None:
    for name, place in ELSEWHERE.items():
        assert (ROOT / "docs" / f"{name}.md").exists()
        assert (ROOT / place).exists()


@pytest.mark.long
@pytest.mark.parametrize("name", here())
def test_every_command_works(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    DESKS.get(name, digits)(tmp_path)
    shown = [line for line in pages()[name] if not any(word in line for word in NOT_HERE)]
    for line in shown:
        for file in re.findall(r"(?<=-o )\S+|(?<=--out )\S+", line):
            if Path(file).is_file():
                Path(file).unlink()  # pages use the same name again
        capsys.readouterr()
        if "device-result" in line:
            continue  # the kit is run by tests/measure/device
        _inputs(line)
        words = shlex.split(line)[1:]
        code = main(words)
        told = capsys.readouterr().err
        assert code in ((0, 1) if words[0] in MAY_FIND_NOTHING else (0,)), f"{line}: {told}"


def _inputs(line: str) -> None:
    """Make what the page takes for granted: an INT8 file to look at, a result to compare with."""
    for file, passes in {"int8.onnx": "quantize-static", "small.onnx": "quantize-static"}.items():
        if file in line and f"-o {file}" not in line and not Path(file).exists():
            assert (
                main(["apply", "model.onnx", "--passes", passes, "--data", "samples.npz", "-o", file, "--quiet"]) == 0
            )
