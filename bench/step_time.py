"""One step of training through the graph beside the same step of the same network written in torch.

    python bench/step_time.py [--steps 30] [--threads 1]

Forward, cross-entropy, backward, AdamW, on the processor; the two alternate in one process. The network in torch is
the one whose export is trained, so that both compute the same.
"""

import argparse
import io
import json
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onnxopt.measure.runtime.environment import environment
from onnxopt.model_file import from_proto
from onnxopt.training.module.torch_model import TorchModel

RESULTS = Path(__file__).parent / "results"


class Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(before, after, 3, stride=after // before, padding=1, bias=False)
        self.two = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.first, self.second = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.short = nn.Conv2d(before, after, 1, stride=2) if after > before else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.short(x) + self.second(self.two(F.relu(self.first(self.one(x))))))


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [(16, 16)] * 3 + [(16, 32)] + [(32, 32)] * 2 + [(32, 64)] + [(64, 64)] * 2
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.blocks, self.head = nn.Sequential(*(Block(*pair) for pair in widths)), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(F.relu(self.norm(self.stem(x)))).mean((2, 3)))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.first, self.second = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        shape = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        q, k, v = (layer(y).reshape(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = torch.softmax(q @ k.transpose(-1, -2) / shape[-1] ** 0.5, -1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.second(x))))


class Transformer(nn.Module):
    def __init__(self, width: int = 192) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(8000, width), nn.LayerNorm(width)
        self.layers, self.head = nn.Sequential(*(Layer(width, 4) for _ in range(4))), nn.Linear(width, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.embed(ids))).mean(1))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], int]] = {
    "ResNet-20, 64 images of 32x32": (ResNet20, lambda: torch.randn(64, 3, 32, 32), 10),
    "transformer of 4 layers of 192, 32 texts of 48": (Transformer, lambda: torch.randint(0, 8000, (32, 48)), 2),
}


def exported(module: nn.Module, x: Tensor) -> TorchModel:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x,),
            buffer,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    return TorchModel(from_proto(onnx.load_from_string(buffer.getvalue())))


def step_of(forward: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(forward(x), labels).backward()
        optimizer.step()

    return step


def measured(name: str, steps: int) -> dict[str, Any]:
    make, sample, classes = CASES[name]
    torch.manual_seed(0)
    source, x = make().eval(), sample()
    for parameter in source.parameters():
        # Exporters store equal arrays once, and a weight that is shared with a statistic is not trained.
        parameter.data.add_(0.01 * torch.rand_like(parameter))
    labels = torch.randint(0, classes, (len(x),))
    ours = exported(source, x)
    pair = {
        "torch": step_of(source, source, x, labels),
        "graph": step_of(lambda batch: ours({"x": batch})["y"], ours, x, labels),
    }
    times: dict[str, list[float]] = {key: [] for key in pair}
    for _ in range(3):
        for step in pair.values():
            step()
    for turn in range(steps):
        for key in list(pair) if turn % 2 else list(pair)[::-1]:
            start = time.perf_counter()
            pair[key]()
            times[key].append(time.perf_counter() - start)
    ratios = np.array(times["graph"]) / np.array(times["torch"])
    low, high = np.quantile(
        np.median(np.random.default_rng(0).choice(ratios, (2000, len(ratios))), axis=1), [0.025, 0.975]
    )
    return {
        "torch_s": float(np.median(times["torch"])),
        "graph_s": float(np.median(times["graph"])),
        "ratio": float(np.median(ratios)),
        "interval": [float(low), float(high)],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = {}
    for name in CASES:
        row = results[name] = measured(name, args.steps)
        print(
            f"{name}: {1000 * row['graph_s']:.1f} ms beside {1000 * row['torch_s']:.1f} ms, "
            f"{row['ratio']:.2f}x [{row['interval'][0]:.2f}, {row['interval'][1]:.2f}]"
        )
    out = args.out or RESULTS / f"{date.today().isoformat()}-step-time.json"
    saved = {"environment": {**environment(), "torch": torch.__version__, "threads": args.threads}, "results": results}
    out.write_text(json.dumps(saved, indent=1, default=str) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
