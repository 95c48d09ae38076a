"""Shared by every maker: the data split, the augmentation, and the checks that a model file must pass.

Needs numpy, scikit-learn, onnx and onnxruntime only, so that it runs in each framework's own environment.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from sklearn.datasets import load_digits

MODELS = Path(__file__).resolve().parent.parent
SIZE_LIMIT_BYTES = 1_000_000
ACCURACY_FLOOR = 0.95
PARITY_TOLERANCE = 1e-4
TRAIN_COUNT = 1000
SHAPES = {"nchw": (1, 8, 8), "nhwc": (8, 8, 1), "rows": (8, 8), "flat": (64,)}

DATA_NOTE = (
    "The 1797 handwritten digits (8x8 pixels, 10 classes) bundled with scikit-learn (`load_digits`), which are the "
    "test part of the UCI data set *Optical Recognition of Handwritten Digits* (E. Alpaydin and C. Kaynak, 1998, "
    "doi:10.24432/C50P49), licence CC BY 4.0. Pixels are divided by 16, so they lie in [0, 1]. "
    "`numpy.random.RandomState(0).permutation(1797)` orders the images: the first 1000 are for training, the last 797 "
    "for testing. No test image was used in training."
)


@dataclass(frozen=True)
class Digits:
    """One part of the split: float32 `images` in [0, 1] and int64 `labels`."""

    images: np.ndarray
    labels: np.ndarray


def load_split(layout: str) -> tuple[Digits, Digits]:
    """Return the train and test parts with images shaped for `layout`, a key of `SHAPES`."""
    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.images))
    images = (bunch.images[order] / 16).astype(np.float32).reshape(-1, *SHAPES[layout])
    labels = bunch.target[order].astype(np.int64)
    train, test = slice(None, TRAIN_COUNT), slice(TRAIN_COUNT, None)
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def augment(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of images of any layout, each moved by at most one pixel, with a little noise."""
    squares = np.pad(images.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    corners = rng.choice(3, size=(len(squares), 2), p=(0.2, 0.6, 0.2))
    moved = np.stack([s[y : y + 8, x : x + 8] for s, (y, x) in zip(squares, corners, strict=True)])
    noisy = moved + rng.normal(0, 0.04, moved.shape)
    return np.clip(noisy, 0, 1).astype(np.float32).reshape(images.shape)


def augmented_copies(part: Digits, copies: int, seed: int) -> Digits:
    """Return `part` followed by `copies` augmented versions of it."""
    rng = np.random.default_rng(seed)
    images = [part.images, *(augment(part.images, rng) for _ in range(copies))]
    return Digits(np.concatenate(images), np.tile(part.labels, copies + 1))


@dataclass(frozen=True)
class Facts:
    """Figures measured on a model file."""

    name: str
    size_bytes: int
    parameters: int
    opsets: dict[str, int]
    ops: dict[str, int]
    inputs: dict[str, str]
    outputs: dict[str, str]
    correct: int
    tested: int

    @property
    def accuracy(self) -> float:
        """Share of test images whose highest score is at the right class."""
        return self.correct / self.tested

    @property
    def accuracy_text(self) -> str:
        """Accuracy as written in cards."""
        return f"{100 * self.accuracy:.2f} % ({self.correct} of {self.tested})"


def publish(
    name: str,
    model: onnx.ModelProto,
    layout: str,
    *,
    reference: Callable[[np.ndarray], np.ndarray],
    about: str,
    packages: tuple[str, ...],
) -> Facts:
    """Check the model, write `models/NAME.onnx` with its card `models/NAME.md`, and print what was measured.

    Args:
        name: file name without its ending.
        model: what the exporter gave.
        layout: a key of `SHAPES`.
        reference: images -> scores as the framework itself computes them.
        about: the card's paragraphs on what the model is and how it was made.
        packages: distributions whose versions the card names, the training framework first.

    Raises:
        ValueError: if the model misses a limit; nothing is written then.
    """
    remove_notes(model)
    onnx.checker.check_model(model, full_check=True)
    facts = measure(name, model.SerializeToString(), layout, reference)
    (MODELS / f"{name}.onnx").write_bytes(model.SerializeToString())
    (MODELS / f"{name}.md").write_text(card(facts, about, packages), encoding="utf-8")
    print(f"{name}: {facts.accuracy_text}, {facts.parameters:,} parameters, {facts.size_bytes:,} bytes")
    return facts


def measure(
    name: str,
    content: bytes,
    layout: str,
    reference: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Facts:
    """Measure a serialized model in ONNX Runtime and hold it against the limits.

    Raises:
        ValueError: if the file is too large, too inaccurate, or differs from `reference`.
    """
    model = onnx.load_from_string(content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    _, test = load_split(layout)
    fixed = isinstance(session.get_inputs()[0].shape[0], int)
    batch_sizes = (1,) if fixed else (1, 7, len(test.images))
    for size in batch_sizes:
        scores = run_in_batches(session, test.images, size)
        if reference is None:
            continue
        worst = float(np.abs(scores - reference(test.images)).max())
        if worst > PARITY_TOLERANCE:
            raise ValueError(f"{name}: differs from its framework by {worst:.1e} at batch {size}")
    facts = Facts(
        name=name,
        size_bytes=len(content),
        parameters=count_parameters(model),
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        ops=dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
        inputs={value.name: describe(value) for value in session.get_inputs()},
        outputs={value.name: describe(value) for value in session.get_outputs()},
        correct=int((scores.argmax(axis=1) == test.labels).sum()),
        tested=len(test.labels),
    )
    if facts.size_bytes >= SIZE_LIMIT_BYTES:
        raise ValueError(f"{name}: {facts.size_bytes} bytes, limit {SIZE_LIMIT_BYTES}")
    if facts.accuracy < ACCURACY_FLOOR:
        raise ValueError(f"{name}: accuracy {facts.accuracy_text}, floor {ACCURACY_FLOOR}")
    return facts


def run_in_batches(session: onnxruntime.InferenceSession, images: np.ndarray, size: int) -> np.ndarray:
    """Return the (N, 10) scores of `images`, run `size` at a time."""
    feed = session.get_inputs()[0].name
    score = next(value.name for value in session.get_outputs() if len(value.shape) == 2)
    starts = range(0, len(images), size)
    return np.concatenate([session.run([score], {feed: images[i : i + size]})[0] for i in starts])


def count_parameters(model: onnx.ModelProto) -> int:
    """Return the number of float values stored as initializers or Constant nodes."""
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    tensors = [*model.graph.initializer, *(a.t for node in constants for a in node.attribute if a.HasField("t"))]
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
    return sum(numpy_helper.to_array(t).size for t in tensors if t.data_type in floats)


def describe(value: onnxruntime.NodeArg) -> str:
    """Return for example `float (batch, 10)`."""
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    return f"{kind} ({', '.join('?' if axis is None else str(axis) for axis in value.shape)})"


def remove_notes(model: onnx.ModelProto) -> None:
    """Remove the source positions and stack traces that exporters leave in a model."""
    graph = model.graph
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        holder.doc_string = ""
        del holder.metadata_props[:]
    for function in model.functions:
        for holder in (function, *function.node, *function.value_info):
            holder.doc_string = ""
            del holder.metadata_props[:]


def card(facts: Facts, about: str, packages: tuple[str, ...]) -> str:
    """Return the model's card as Markdown."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"""# {facts.name}

{about.strip()}

| | |
|---|---|
| Accuracy on the test split, this file in ONNX Runtime | {facts.accuracy_text} |
| Parameters (float values in the file) | {facts.parameters:,} |
| Size | {facts.size_bytes:,} bytes |
| Opset | {listed(facts.opsets, "{} {}")} |
| Input | {listed(facts.inputs, "`{}`: {}")} |
| Output | {listed(facts.outputs, "`{}`: {}")} |
| Operators | {listed(facts.ops, "{} x{}")} |

**Made by** `models/makers/{facts.name}.py` with Python {platform.python_version()}, {versions}. The file was checked \
with the ONNX checker, and its scores agree with the framework's within {PARITY_TOLERANCE} on all test images.

**Licence** of the weights and of the maker: Apache-2.0, like the rest of this project.

**Data.** {DATA_NOTE}

**Use.** A test and demonstration model: it knows centred 8x8 digits and nothing else.
"""


def listed(entries: Mapping[str, object], form: str) -> str:
    """Join the entries, each written in `form`."""
    return ", ".join(form.format(key, value) for key, value in entries.items())
