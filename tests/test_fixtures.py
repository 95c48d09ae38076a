"""Files that exporters wrote: every pass runs on them or says why not, and ONNX Runtime runs the result.

The files are not part of the repository; they are looked for beside it.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import available_passes, parse
from onnxopt.graph.edit import with_input_shapes
from onnxopt.model_file import load, probe_feeds, save, signature_of, to_bytes
from onnxopt.pipeline import Context, Effect, Pipeline
from onnxopt.samples import Samples
from onnxopt.target import target_of
from tests import builders, numerics

SHARED = Path(__file__).parents[2] / "shared"
FILES = sorted([*(SHARED / "fixtures").glob("*.onnx"), *(SHARED / "data" / "models").glob("*.onnx")])
SIZES = (1, 2, 16, 32, 64, 128, 224)
"""Tried for the dynamic dimensions of models that come without inputs."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FILES, reason="there are no exported models beside the repository"),
]
SMALLER = {"candy": {"inputImage": (1, 3, 96, 96)}}
UNTIMED = [
    f"{name}{{verify=false}}" if any(f.name == "verify" for f in fields(made)) else name
    for name, made in available_passes().items()
]
"""Whether a result is faster is nothing that a test can ask of large models."""
SPECS = [*UNTIMED, "simplify,quantize-static{form=qoperator,method=entropy}"]


class OneRun:
    """One batch of inputs, fed as it is."""

    name, labels, stacks = "one run", None, False

    def __init__(self, feeds: Mapping[str, np.ndarray]) -> None:
        self.feeds = feeds

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> Mapping[str, np.ndarray]:
        return self.feeds


def loaded(path: Path) -> ir.Model:
    """Return the model of a file; one whose pictures are large reads smaller ones."""
    model = load(path)
    if path.stem not in SMALLER:
        return model
    small = with_input_shapes(model, SMALLER[path.stem])
    for node in small.graph:
        node.attributes.pop("output_shape", None)
        for value in node.outputs:
            value.shape = None if value.shape is None else ir.Shape([None] * len(value.shape))
    return small


def feeds_of(path: Path, model: ir.Model) -> dict[str, np.ndarray] | None:
    """Return inputs the original runs on: the recorded ones, or made-up ones of the first size that works."""
    recorded = path.with_suffix(".npz")
    if recorded.exists():
        with np.load(recorded, allow_pickle=True) as archive:
            return {key.split("__", 1)[1]: archive[key] for key in archive.files if key.startswith("input_")}
    for size in SIZES:
        feeds = probe_feeds(signature_of(model), dynamic=size)
        try:
            builders.run(to_bytes(model), feeds)
        except Exception:  # the runtime's errors have no common base class
            continue
        return feeds
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_file_survives_saving(path: Path, tmp_path: Path) -> None:
    model = load(path)
    first, *_ = save(model, tmp_path / "first.onnx")
    second, *_ = save(load(first), tmp_path / "second.onnx")
    assert first.read_bytes() == second.read_bytes()
    assert signature_of(load(first)) == signature_of(model)
    feeds = feeds_of(path, model)
    if feeds is None:
        pytest.skip("no made-up input runs in the original")
    expected, found = builders.run(path.read_bytes(), feeds), builders.run(first.read_bytes(), feeds)
    assert numerics.largest_difference(expected, found) <= numerics.EXACT_RELATIVE


EVERY = 9
"""Of the grid, the part that always runs: each file with one pass in nine, by turns."""
CASES = [
    pytest.param(path, spec, marks=() if (f + s) % EVERY == 0 else pytest.mark.grid, id=f"{path.stem}-{spec}")
    for f, path in enumerate(FILES)
    for s, spec in enumerate(SPECS)
]


@pytest.mark.parametrize(("path", "spec"), CASES)
def test_every_pass_runs_or_says_why_not(path: Path, spec: str) -> None:
    model = loaded(path)
    feeds = feeds_of(path, model)
    if feeds is None:
        pytest.skip("no made-up input runs in the original")
    untouched = to_bytes(model)
    context = Context(target_of("x86-vnni"), Samples.of(OneRun(feeds)))
    result = Pipeline(parse(spec)).run(model, context)
    assert to_bytes(model) == untouched
    for step in result.steps:
        assert all(skip.reason.strip() and "\n" not in skip.reason for skip in step.skipped)
        assert step.edits or len(result.steps) > 1 or to_bytes(result.model) == untouched
    expected = builders.run(untouched, feeds)
    for optimized in (False, True):
        found = builders.run(result.model, feeds, optimized)
        if all(step.spec.effect is Effect.EXACT for step in result.steps):
            assert numerics.largest_difference(expected, found) <= numerics.DEEP_RELATIVE
        assert [getattr(o, "shape", None) for o in found] == [getattr(o, "shape", None) for o in expected]
