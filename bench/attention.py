"""The gain of fusing and linearizing attention, by family, exporter and length of the sequence.

    python bench/attention.py [--seconds 3] [--out FILE]

Every form of a model is timed beside the model itself in one run, interleaved, on one thread, as called: with 32 inputs
by turns. Families are exported by
both exporters of torch; the encoder (width 256, 8 heads, 2 layers, random weights) is exported at several lengths, and
the trained sentence classifier of the developer pack is measured when the pack is there. Prints a table and saves JSON
under `bench/results/`, after every row. Exit code 1 when a fused model differs from its original by more than 1e-4 of
its outputs' range.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from architectures import EXPORTERS, FAMILIES, export
from architectures.attention import feed_forward
from architectures.families import Family
from pack import ROOT as PACK
from torch import Tensor, nn

from onnxopt.measure.latency import measure_latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.verdict import PROVED
from onnxopt.model_file import load, probe_feeds, signature_of
from onnxopt.passes.fuse_attention import FuseAttention
from onnxopt.passes.linearize_attention import LinearizeAttention
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.target import detect

RESULTS = Path(__file__).parent / "results"
INPUTS = 32
LENGTHS = (16, 64, 128, 256, 512, 1024)
TRANSFORMERS = ("vit", "swin", "bert", "gpt2", "llama")
PASSES: Mapping[str, Pass] = {
    "portable": FuseAttention(form="portable", verify=False),
    "runtime": FuseAttention(form="runtime", verify=False),
    "linear": LinearizeAttention(verify=False),
}


class Layer(nn.Module):
    """Post-norm encoder layer."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.first, self.second, self.inner = nn.LayerNorm(width), nn.LayerNorm(width), feed_forward(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
        x = self.first(x + self.out((weights @ v).transpose(1, 2).reshape(batch, time, width)))
        return self.second(x + self.inner(x))


def encoder(length: int) -> Family:
    """Return a family of one network for sequences of `length`."""

    def feeds(n: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"x": torch.randn(n, length, 256, generator=generator)}

    return Family(lambda: nn.Sequential(Layer(256, 8), Layer(256, 8)), feeds)


Inputs = Sequence[Mapping[str, np.ndarray]]


def cases(folder: Path) -> Iterator[tuple[str, ir.Model, Inputs]]:
    """Yield a name, a model and the samples it is called with by turns."""
    named = {name: FAMILIES[name] for name in TRANSFORMERS}
    for name, family in {**named, **{f"encoder, {length} tokens": encoder(length) for length in LENGTHS}}.items():
        for exporter in EXPORTERS if name in named else EXPORTERS[:1]:
            path = folder / "model.onnx"
            export(family, exporter, path)
            generator = torch.Generator().manual_seed(1)
            inputs = [{k: v.numpy() for k, v in family.feeds(1, generator).items()} for _ in range(INPUTS)]
            yield (f"{name}, {exporter}" if name in named else name), load(path), inputs
    path = PACK / "models" / "text_sst2_bert_l2_d192.onnx"
    if path.exists():
        model = load(path)
        for length in (8, 32):
            probes = (probe_feeds(signature_of(model), dynamic=length, seed=seed) for seed in range(INPUTS))
            yield f"sst2 (trained), {length} tokens", model, [{n: a[:1] for n, a in p.items()} for p in probes]


def measured(model: ir.Model, inputs: Inputs, seconds: float) -> dict[str, Any]:
    """Return per form the difference from the original, the speed-up, and why nothing was done."""
    context = Context(detect())
    forms, rows = dict[str, ir.Model](), dict[str, Any]()
    for name, spec in PASSES.items():
        made = Pipeline((spec,)).run(model, context)
        step = made.steps[0]
        layers = sum("attention" in edit.action for edit in step.edits)
        rows[name] = {"layers": layers, "left": sorted({skip.reason for skip in step.skipped})}
        if layers:
            forms[name] = made.model
            rows[name] |= {"difference": step.difference} if step.difference is not None else {}
    if forms:
        timed = measure_latency({"": model, **forms}, inputs, Runtime(threads=1), seconds=seconds)
        rows["p50_ms"] = timed[""].p50_ms
        for name in forms:
            speedup = timed[name].speedup
            if speedup is None:
                rows[name]["unsure"] = timed[name].unsure
            else:
                rows[name]["speedup"] = [round(number, 3) for number in (speedup.value, speedup.low, speedup.high)]
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of timing per model")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-attention.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = list[dict[str, Any]]()
    print("| model | p50 | Attention (opset 23) | MultiHeadAttention | linear |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, model, inputs in cases(Path(folder)):
            row = {"model": name, **measured(model, inputs, options.seconds)}
            rows.append(row)
            cells = [f"{row[form]['speedup'][0]:.2f}x" if "speedup" in row[form] else "-" for form in PASSES]
            time = f"{row['p50_ms']:.3f} ms" if "p50_ms" in row else "-"
            print(f"| {name} | {time} | {' | '.join(cells)} |", flush=True)
            record = {"environment": {**environment(Runtime(threads=1)), "torch": torch.__version__}, "rows": rows}
            options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"saved {options.out}")
    worst = max(row[form].get("difference", 0.0) for row in rows for form in ("portable", "runtime"))
    return int(worst > PROVED)


if __name__ == "__main__":
    raise SystemExit(main())
