"""The developer pack: real trained models with labelled data, read from a folder beside the checkout.

The pack is for measuring only; none of it is part of this project. `ONNXOPT_PACK` names its folder.
"""

import io
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onnxopt.samples import Samples

ROOT = Path(os.environ.get("ONNXOPT_PACK", Path(__file__).parents[2] / "shared" / "data"))
CALIBRATION_CLIPS = 200
TRAINING_CLIPS = 1200
"""Clips that a keyword model learns from."""


@dataclass(frozen=True)
class Rows:
    """Samples made one at a time by `make(index)`, without the batch axis."""

    name: str
    make: Callable[[int], Mapping[str, np.ndarray]]
    count: int
    labels: np.ndarray | None
    stacks: bool = True

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Mapping[str, np.ndarray]:
        return self.make(index)


@dataclass(frozen=True)
class Case:
    """One model of the pack with its calibration and test data."""

    entry: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        return Path(self.entry["file"]).stem

    @property
    def path(self) -> Path:
        return ROOT / "models" / self.entry["file"]

    @property
    def label_offset(self) -> int:
        return int(self.entry.get("label_offset", 0))

    @cached_property
    def input(self) -> str:
        from onnxopt import model_file

        return model_file.signature_of(model_file.load(self.path)).inputs[0].name

    def test(self) -> Samples:
        task = self.entry["task"]
        if task in ("cifar10", "imagenet"):
            return self._pictures(self.entry["data"])
        if task == "kws":
            z, clips = _arrays(self.entry["data"]), _clips(self.entry["data"])[CALIBRATION_CLIPS:]
            return self._plain(z["features"][clips], z["labels"][clips])
        if task == "text":
            return self._text("sst2_test.tsv")
        z = _arrays(self.entry["data"])
        x = z["test_x"][:, None] if task == "mnist" else z["test_x"]
        return self._plain(x.astype(np.float32), z["test_y"])

    def calibration(self) -> Samples:
        task = self.entry["task"]
        if task == "cifar10":
            return self._pictures("cifar10_train_50k.npz").take(512)
        if task == "imagenet":
            return self._pictures("imagenet_calibration_150.npz")
        if task == "kws":
            z, clips = _arrays(self.entry["data"]), _clips(self.entry["data"])[:CALIBRATION_CLIPS]
            return self._plain(z["features"][clips], z["labels"][clips])
        if task == "text":
            return self._text("sst2_train5k.tsv").take(512)
        z = _arrays(self.entry["data"])
        x = z["train_x"][:, None] if task == "mnist" else z["train_x"]
        return self._plain(x.astype(np.float32), z["train_y"]).take(512)

    def _plain(self, x: np.ndarray, y: np.ndarray) -> Samples:
        name = self.input
        return Samples.of(Rows(self.name, lambda i: {name: x[i]}, len(x), y))

    def _pictures(self, file: str) -> Samples:
        z, entry, name = _arrays(file), self.entry, self.input
        raw, offsets = z["encoded"].tobytes(), z["offsets"]

        def make(index: int) -> dict[str, np.ndarray]:
            image = Image.open(io.BytesIO(raw[offsets[index] : offsets[index + 1]])).convert("RGB")
            return {name: _to_input(image, entry)}

        return Samples.of(Rows(self.name, make, len(offsets) - 1, z.get("labels")))

    def _text(self, file: str) -> Samples:
        sentences = list(_sentences(file))

        def make(index: int) -> dict[str, np.ndarray]:
            ids = np.array(sentences[index][0], np.int64)
            return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

        return Samples.of(Rows(self.name, make, len(sentences), np.array([label for _, label in sentences])))


@cache
def _arrays(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(ROOT / "data" / name, allow_pickle=False))


def _clips(name: str) -> np.ndarray:
    # The clips lie in the order of their classes: the first ones would make a one-sided calibration.
    return np.random.RandomState(0).permutation(len(_arrays(name)["labels"]))


def clips_of(case: Case, first: int, last: int | None) -> Samples:
    """Return part of a keyword model's clips, in the order in which calibration takes the first ones."""
    z, clips = _arrays(case.entry["data"]), _clips(case.entry["data"])[first:last]
    return case._plain(z["features"][clips], z["labels"][clips])


def training_of(case: Case) -> Samples:
    """Return what may be learned from: none of it is in the judging part."""
    task = case.entry["task"]
    if task == "cifar10":
        return case._pictures("cifar10_train_50k.npz")
    if task == "text":
        return case._text("sst2_train5k.tsv")
    return clips_of(case, 0, TRAINING_CLIPS) if task == "kws" else case.calibration()


def judging_of(case: Case) -> Samples:
    """Return the test part; half of the clips of a keyword model, for it has no samples to learn from besides."""
    return clips_of(case, TRAINING_CLIPS, None) if case.entry["task"] == "kws" else case.test()


def _to_input(image: Image.Image, entry: Mapping[str, Any]) -> np.ndarray:
    size = entry["size"]
    if entry.get("resize") == "crop":
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    elif image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    x = np.asarray(image, np.float32) / entry["div"]
    if entry.get("bgr"):
        x = x[..., ::-1]
    x = (x - np.array(entry["mean"], np.float32)) / np.array(entry["std"], np.float32)
    return np.ascontiguousarray(x.transpose(2, 0, 1) if entry["layout"] == "NCHW" else x, np.float32)


def _sentences(file: str) -> list[tuple[list[int], int]]:
    vocabulary = json.loads((ROOT / "data" / "sst2_vocab.json").read_text())
    index = {word: i for i, word in enumerate(vocabulary["vocab"])}
    found = []
    for line in (ROOT / "data" / file).read_text().splitlines():
        sentence, label = line.rsplit("\t", 1)
        words = re.findall(vocabulary["regex"], sentence.lower())
        found.append((([2] + [index.get(w, 1) for w in words])[: vocabulary["max_len"]], int(label)))
    return found


def cases(only: Sequence[str] = ()) -> list[Case]:
    """Return the labelled models of the pack, or those whose name contains one of `only`.

    Raises:
        SystemExit: the pack is not there.
    """
    manifest = ROOT / "manifest.json"
    if not manifest.is_file():
        raise SystemExit(
            f"This measures the developer pack, and there is no {manifest}: trained models with labelled samples of "
            "ImageNet, CIFAR-10, Speech Commands and SST-2. Licences of some forbid to publish them here, so ask the "
            "maintainers for the folder (manifest.json, models/, data/) and name it by ONNXOPT_PACK=/its/path."
        )
    entries = json.loads(manifest.read_text())["models"]
    labelled = [Case(e) for e in entries if e["task"] != "parity"]
    return [c for c in labelled if not only or any(part in c.name for part in only)]
