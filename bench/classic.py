"""The classic compression table: prune half, quantize, distill, and both together, on ResNets with labels.

    python bench/classic.py [NAME_PART ...] [--steps 600] [--limit 5000] [--seconds 8]
    python bench/classic.py --table

Rows: the float network; half of its multiply-accumulates removed and compensated by least squares; INT8 alone; a
network pruned by half that learned from the float network (distillation without labels); that one in INT8. Networks are
calibrated and trained on training images, judged by the labels of test images, and timed in one interleaved run, as
called, beside files whose place is known (`controls.py`). The record is written after each network; networks that are
in it are left out, and files in `--work` are used again.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from controls import controls
from optimize_table import TITLES, of_class
from pack import Case, cases, training_of
from quantize import SLOWER

from onnxopt import model_file
from onnxopt.catalog import parse
from onnxopt.graph.layers import anatomy_of
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.latency import drawn_inputs, measure_latency
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.named import metric_of
from onnxopt.pipeline import Context, Pipeline
from onnxopt.search.int8.choose import fastest_int8
from onnxopt.target import detect

HERE = Path(__file__).parent
NETWORKS = (
    "cifar10_jpeg_resnet20",
    "keras_mlperf_resnet8_cifar10",
    "cifar10_jpeg_resnet9",
    "cifar10_jpeg_resnet56",
)
WIDE = ("resnet9",)
"""Networks whose layers are wide enough for whole registers; of the others single channels are removed."""
IMAGES = 256
LEARNING = 10_000
WORSE = "planted-worse"
"""The control that is judged by labels, not by the clock."""
TRAINING = "lr=0.001,batch_size=128,augment=[flip,crop],precision=bfloat16,losses=[response]"
ROWS: Mapping[str, tuple[str, str]] = {
    "fp32": ("float32", ""),
    "pruned": ("pruning 50 %", "pruned/trained"),
    "int8": ("INT8", "quantized only"),
    "distilled": ("pruning 50 % + distillation", "pruned/trained"),
    "both": ("pruning 50 % + distillation + INT8", "pruned/trained"),
}
"""By row: its title, and its division: MLPerf's closed one is `quantized only`, its open one `pruned/trained`."""


class Maker:
    """The files of one network, each made once."""

    def __init__(self, case: Case, steps: int, work: Path) -> None:
        self.case, self.steps, self.work = case, steps, work
        self.model, training = model_file.load(case.path), training_of(case)
        self.few = training.take(min(IMAGES, len(training)))
        self.many = training.take(min(LEARNING, len(training)))
        self.seconds: dict[str, float] = {}

    def files(self) -> dict[str, Path]:
        makers: Mapping[str, Callable[[], Any]] = {
            "pruned": lambda: self._run(self.model, f"prune-channels{{macs=0.5,round_to={self._block()}}}"),
            "int8": lambda: self._int8(self.model),
            "distilled": lambda: self._run(
                model_file.load(self._file("pruned")), f"distill{{steps={self.steps},{TRAINING}}}"
            ),
            "both": lambda: self._int8(model_file.load(self._file("distilled"))),
        }
        return {"fp32": self.case.path, **{name: self._made(name, make) for name, make in makers.items()}}

    def _block(self) -> str:
        return "auto" if any(part in self.case.name for part in WIDE) else "1"

    def _file(self, name: str) -> Path:
        return self.work / self.case.name / f"{name}.onnx"

    def _made(self, name: str, make: Callable[[], Any]) -> Path:
        path, cost = self._file(name), self._file(name).with_suffix(".seconds")
        if not cost.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            start = time.perf_counter()
            model_file.save(make(), path, overwrite=True)
            cost.write_text(f"{time.perf_counter() - start:.1f}")
            print(f"  made {name} in {cost.read_text()} s", flush=True)
        self.seconds[name] = float(cost.read_text())
        return path

    def _run(self, model: Any, passes: str) -> Any:
        samples = self.many if passes.startswith("distill") else self.few
        return Pipeline(parse(passes)).run(model, Context(detect(), samples, teacher=self.model)).model

    def _int8(self, model: Any) -> Any:
        return fastest_int8(model, self.few, Context(detect(), self.few)).form.built.model


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    maker, test = Maker(case, options.steps, options.work), case.test()
    test = test.take(min(options.limit, len(test)))
    files = maker.files()
    planted = controls(case.path, options.work / case.name / "controls")
    files |= planted
    judge = LabelJudge(case.path, test, Runtime(), metric_of("top1", label_offset=case.label_offset))
    timed = measure_latency(files, drawn_inputs(test, 1), Runtime(), seconds=options.seconds)
    rows, whole = dict[str, Any](), anatomy_of(maker.model).macs
    for name, path in files.items():
        speed, size = timed[name].speedup, model_file.size_of(path)
        row: dict[str, Any] = {"size_bytes": size, "p50_ms": timed[name].p50_ms, "p99_ms": timed[name].p99_bound_ms}
        row["speedup"] = speed and {"low": speed.low, "value": speed.value, "high": speed.high}
        if name in (*ROWS, WORSE):
            found = judge.evaluate(path)
            drop = judge.drop(found)
            row |= {"accuracy": found.value, "drop": drop.value, "interval": [drop.interval.low, drop.interval.high]}
            row |= {"seconds": maker.seconds.get(name)}
        rows[name] = row
    for name, source in (("pruned", "pruned"), ("distilled", "distilled"), ("both", "distilled")):
        rows[name]["macs_share"] = anatomy_of(model_file.load(files[source])).macs / whole
    return {
        "model": case.name,
        "n": len(test),
        "rows": rows,
        "load": round(os.getloadavg()[0], 1),
        "missed": missed(rows),
    }


def missed(rows: Mapping[str, Any]) -> list[str]:
    """Return the controls that were not found where they belong."""
    again, slower = rows["again"]["speedup"], rows["planted-slower"]["speedup"]
    right = {
        WORSE: rows[WORSE]["interval"][0] > 0,
        "again": bool(again) and again["low"] <= 1 <= again["high"],
        "planted-slower": bool(slower) and slower["high"] < SLOWER,
    }
    return [name for name, fine in right.items() if not fine]


def table(models: Sequence[Mapping[str, Any]]) -> str:
    """Return the record as Markdown."""
    heads = (
        "network (n)",
        "row",
        "division",
        "top-1",
        "drop, points",
        "class",
        "compression",
        "MACs",
        "speed-up",
        "minutes",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---|--:|--:|---|" + "--:|" * 4]
    for model in models:
        base = model["rows"]["fp32"]
        for name, (title, division) in ROWS.items():
            row, first = model["rows"][name], name == "fp32"
            cells = [f"{TITLES[model['model']]} ({model['n']})" if first else "", title, division]
            cells += [f"{100 * row['accuracy']:.2f}", "" if first else _drop(row)]
            cells += ["" if first else of_class(row["accuracy"] / base["accuracy"])]
            cells += [f"{base['size_bytes'] / row['size_bytes']:.1f}x"]
            cells += [f"{100 * row['macs_share']:.0f} %" if "macs_share" in row else "100 %"]
            cells += ["1" if first else _speed(row), "" if first else f"{row['seconds'] / 60:.1f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _drop(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    return f"{100 * row['drop']:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def _speed(row: Mapping[str, Any]) -> str:
    speed = row["speedup"]
    return f"{speed['value']:.2f}x [{speed['low']:.2f}, {speed['high']:.2f}]" if speed else "unsure"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of names of networks")
    parser.add_argument("--steps", type=int, default=600, help="of distillation")
    parser.add_argument("--limit", type=int, default=5000, help="test samples")
    parser.add_argument("--seconds", type=float, default=8.0, help="of latency measurement per network")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--work", type=Path, default=HERE / "build" / "classic", help="folder of the files")
    parser.add_argument("--table", action="store_true", help="print the record, measure nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{date.today()}-classic.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models: list[dict[str, Any]] = json.loads(options.out.read_text())["models"] if options.out.exists() else []
    for case in () if options.table else cases(options.only or NETWORKS):
        if case.name in {model["model"] for model in models}:
            continue
        print(case.name, flush=True)
        models.append(measure(case, options))
        settings = {key: getattr(options, key) for key in ("steps", "limit", "seconds", "threads")}
        record = {"settings": settings, "models": models, "environment": environment()}
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1, default=str) + "\n")
        print(table(models[-1:]), f"missed: {models[-1]['missed']}", sep="\n", flush=True)
    print(table(models))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
