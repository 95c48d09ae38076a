"""The trained decoder reads through its cache as it reads at once, and its tokenizer loses no letter."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest

from onnxopt.samples.tokenizer import Vocabulary, open_vocab

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def bench(bench_module):
    return bench_module("trained_decoder")


def test_words_that_are_rare_are_spelled(bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "VOCABULARY", 10)
    (tmp_path / "vocab.json").write_text(json.dumps(bench.vocabulary_of(["a cat sat", "a cat", "a catty"])))
    words = open_vocab(tmp_path / "vocab.json")
    assert isinstance(words, Vocabulary)
    names = list(words.ids)
    assert [names[i] for i in words.encode("a cat catty")] == ["[CLS]", "a", " cat", *" catty"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_exported_decoder_answers_as_torch_does_and_through_its_cache(bench: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = bench.Decoder(2, 32, 50).eval()
    bench.export(model, tmp_path / "decoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "decoder.onnx")
    tokens, places = np.arange(1, 9)[None], np.arange(8)[None]

    def run(start: int, end: int, cache: list[np.ndarray]) -> list[np.ndarray]:
        feeds = {"input_ids": tokens[:, start:end], "attention_mask": np.ones((1, end), np.int64)}
        names = [i.name for i in session.get_inputs()[3:]]
        return session.run(
            None, {**feeds, "position_ids": places[:, start:end], **dict(zip(names, cache, strict=True))}
        )

    empty = [np.zeros((1, bench.HEADS, 0, 32 // bench.HEADS), np.float32)] * 4
    logits, *cache = run(0, 5, empty)
    pieces = np.concatenate([logits, run(5, 8, cache)[0]], axis=1)
    given = (torch.from_numpy(tokens), torch.ones(1, 8, dtype=torch.int64), torch.from_numpy(places))
    whole = model(*given, *map(torch.from_numpy, empty))[0].detach().numpy()
    np.testing.assert_allclose(pieces, whole, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_training_lowers_the_loss(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    bench.trained([[2, *range(5, 5 + n)] for n in (9, 7, 8, 12)] * 80, 1, 32, 6)
    losses = [float(line.split()[2]) for line in capsys.readouterr().out.splitlines()]
    assert losses[-1] < losses[0] - 2
