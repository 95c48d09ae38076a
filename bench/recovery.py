"""Accuracy recovered by training after pruning, on the developer pack.

    python bench/recovery.py [TASK_PART ...] [--steps 2000] [--limit 5000] [--rows none response ...] [--fresh]
    python bench/recovery.py --table

Every task removes a share of a network and distills the original into the rest, on training samples without their
labels. Rows: `none` (only removed), `compensated` (least squares), then distillation of the compensated
network by feature, response, relation and all three. `int8` is the distilled network (with all three
losses, if that was done) after `quantize --mode auto`. `dense` is the whole network fine-tuned with labels for as many
steps, because training on these samples alone may raise its accuracy. The `student` task trains a narrow network of
another architecture with a large teacher (`distilled`) and with labels alone (`labels`). The `4bit`
task quantizes the whole network: to 8 bits, to 4, and to 4 with training. The `blocks` task removes residual blocks and
compares recipes of the distillation: `recipe` is that of `optimize --train` with all training images, and each other
row differs from it in one option.

Finished rows are not repeated: results are saved after each under `bench/results/`, pruned networks under
`--work`.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from pack import Case, cases, judging_of, training_of

from onnxopt import model_file
from onnxopt.catalog import format_pass, parse
from onnxopt.graph.layers import anatomy_of
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.named import metric_of
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.samples import Samples
from onnxopt.search.int8.choose import fastest_int8
from onnxopt.target import detect

RESULTS = Path(__file__).parent / "results"
LOSSES: Mapping[str, str] = {
    "feature": "[feature]",
    "response": "[response]",
    "relation": "[relation]",
    "all": "[response,feature,relation]",
}
ROWS = ("none", "compensated", *LOSSES, "int8", "dense")
QUANTIZE = "simplify,quantize-static"
IMAGES = "lr=0.001,batch_size=128,augment=[flip,crop],precision=bfloat16"
PLAIN = "lr=0.0005,batch_size=32"
RECIPE: Mapping[str, str] = {"lr": "0.001", "batch_size": "64", "augment": "[crop]", "precision": "bfloat16"}
RECIPES: Mapping[str, Mapping[str, str]] = {
    "recipe": {},
    "flips": {"augment": "[crop,flip]"},
    "mixtures": {"augment": "[crop,mixup]"},
    "lr x2": {"lr": "0.002"},
    "lr /2": {"lr": "0.0005"},
    "temperature 1.5": {"temperature": "1.5"},
    "labels too": {"alpha": "0.8"},
    "10,000 images": {"images": "10000"},
}
"""Rows of the `blocks` task, and the options in which each differs from `RECIPE`."""


@dataclass(frozen=True)
class Task:
    """Attributes:
    model: name of the model that is pruned, and the teacher unless `teacher` names another.
    prune: pass, without its closing brace.
    train: options of training, without steps and losses.
    teacher: name of another teacher.
    alone: option of the pass that leaves the remaining weights unchanged.
    """

    model: str
    prune: str
    train: str
    teacher: str = ""
    alone: str = "compensate=none"


def _macs(model: str, level: float, train: str) -> tuple[str, Task]:
    # Only where layers are wide enough for whole registers are channels kept in multiples of them.
    block = "auto" if "resnet9" in model else "1"
    return f"{model}-{round(100 * (1 - level))}", Task(model, f"prune-channels{{macs={level},round_to={block}", train)


TASKS: Mapping[str, Task] = {
    **dict(_macs(f"cifar10_jpeg_{net}", level, IMAGES) for net in ("resnet20", "resnet56") for level in (0.5, 0.35)),
    **dict([_macs("cifar10_jpeg_resnet9", 0.5, IMAGES)]),
    "text_sst2-half": Task(
        "text_sst2_bert_l2_d192", "prune-channels{ratio=0.5,scope=local,protect=[],round_to=1", PLAIN
    ),
    **dict(_macs(f"tf_kws_{net}", 0.5, PLAIN) for net in ("ds_cnn_s", "dnn_m")),
    # Its cell is a loop of plain operators: its products are factorized, for no channels could be followed through it.
    "tf_kws_lstm_m-50": Task("tf_kws_lstm_m", "factorize{macs=0.5,verify=false", PLAIN, alone="data_aware=false"),
    "cifar10_jpeg_resnet20-4bit": Task("cifar10_jpeg_resnet20", "", "lr=0.0001,batch_size=64,augment=[flip,crop]"),
    "cifar10_jpeg_resnet20-blocks": Task("cifar10_jpeg_resnet20", "prune-blocks{count=3", ""),
    "student": Task(
        "cifar10_jpeg_resnet9", "narrow-student{width=0.25", f"{IMAGES},batch_norm=trained", "cifar10_jpeg_resnet56"
    ),
}


class Bench:
    """One task: its models, its samples, its judge."""

    def __init__(self, name: str, steps: int, limit: int, work: Path) -> None:
        self.name, self.task, self.steps, self.work = name, TASKS[name], steps, work
        self.case = _case(self.task.model)
        self.model = model_file.load(self.case.path)
        self.teacher = model_file.load(_case(self.task.teacher).path) if self.task.teacher else self.model
        test = judging_of(self.case)
        offset = self.case.label_offset
        test = test.take(min(limit, len(test)))
        self.judge = LabelJudge(self.model, test, Runtime(), metric_of("top1", label_offset=offset))
        self.samples, self.count = training_of(self.case), len(test)

    def rows(self) -> Mapping[str, Callable[[], Optimized]]:
        """Return a function for each row that makes its model."""
        if self.task.teacher:
            return {
                "distilled": lambda: self._trained(self._pruned(), "distill", "losses=[response]"),
                "labels": lambda: self._trained(self._pruned(), "finetune", ""),
            }
        if not self.task.prune:
            return {
                "int8": lambda: self._run(self.model, QUANTIZE),
                # One step that changes nothing writes what four bits are worth without training.
                "int4": lambda: self._run(self.model, self._four_bits("lr=1e-12,batch_size=64,steps=1")),
                "int4 trained": lambda: self._run(self.model, self._four_bits(f"{self.task.train},steps={self.steps}")),
            }
        if not self.task.train:
            found = {"compensated": lambda: self._run(self.model, f"{self.task.prune}}}")}
            return found | {row: lambda row=row: self._learned(row) for row in RECIPES}
        made = {
            "none": lambda: self._run(self.model, f"{self.task.prune},{self.task.alone}}}"),
            "compensated": lambda: self._run(self.model, f"{self.task.prune}}}"),
            "dense": lambda: self._trained(self.model, "finetune", ""),
        }
        for name, losses in LOSSES.items():
            made[name] = lambda losses=losses: self._trained(self._pruned(), "distill", f"losses={losses}")
        kept = [self._kept(name) for name in ("all", "response") if self._kept(name).exists()]
        if kept:
            made["int8"] = lambda: self._int8(model_file.load(kept[0]))
        return {name: made[name] for name in ROWS if name in made}

    def _int8(self, model: ir.Model) -> Optimized:
        return fastest_int8(model, self.samples, Context(detect(), self.samples)).form.built

    def _four_bits(self, options: str) -> str:
        return f"{QUANTIZE},qat{{weight_bits=4,{options}}}"

    def _kept(self, row: str) -> Path:
        return self.work / f"{self.name}-{row}.onnx"

    def _pruned(self) -> ir.Model:
        file = self.work / f"{self.name}.onnx"
        if not file.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            model_file.save(self._run(self.model, f"{self.task.prune}}}").model, file)
        return model_file.load(file)

    def _trained(self, model: ir.Model, name: str, losses: str) -> Optimized:
        options = ",".join(filter(None, (f"steps={self.steps}", self.task.train, losses)))
        return self._run(model, f"{name}{{{options}}}")

    def _learned(self, row: str) -> Optimized:
        changed = dict(RECIPES[row])
        samples = self.samples.take(int(changed.pop("images", len(self.samples))))
        options = ",".join(f"{key}={value}" for key, value in {**RECIPE, **changed, "steps": self.steps}.items())
        return self._run(self._pruned(), f"distill{{{options}}}", samples)

    def _run(self, model: ir.Model, passes: str, samples: Samples | None = None) -> Optimized:
        return Pipeline(parse(passes)).run(model, Context(detect(), samples or self.samples, teacher=self.teacher))

    def measured(self, row: str, make: Callable[[], Optimized]) -> dict[str, Any]:
        """Return one row; trained networks are stored."""
        start = time.perf_counter()
        made = make()
        if row in LOSSES:
            model_file.save(made.model, self._kept(row), overwrite=True)
        duration_s = time.perf_counter() - start
        drop = self.judge.drop(self.judge.evaluate(made.model))
        step = made.steps[-1]
        return {
            "spec": format_pass(step.spec),
            "drop": drop.value,
            "interval": [drop.interval.low, drop.interval.high],
            "accuracy": self.judge.baseline().value - drop.value,
            "macs_removed": 1 - anatomy_of(made.model).macs / max(anatomy_of(self.model).macs, 1),
            "skipped": [skip.reason for skip in step.skipped][:5],
            "curve": [list(point) for point in step.curve],
            "duration_s": round(duration_s, 1),
            "samples": len(self.samples),
            "n": self.count,
        }


def _case(name: str) -> Case:
    return next(case for case in cases([name]) if case.name == name)


def line(name: str, row: Mapping[str, Any]) -> str:
    accuracy, points = f"{100 * row['accuracy']:.2f} %", f"{-100 * row['drop']:+.2f} points"
    return f"  {name:12} {accuracy:>8} {points:>14} {row['macs_removed']:5.0%} of MACs gone {row['duration_s']:8.1f} s"


def table(results: Mapping[str, Any]) -> str:
    """Return the record as Markdown."""
    lines = ["| network, MACs removed | row | top-1 | drop, points | steps | minutes |", "|---|---|--:|--:|--:|--:|"]
    for name, found in results.items():
        lines.append(f"| **{name}** | baseline | {100 * found['baseline_accuracy']:.2f} | | | |")
        for key, row in found["rows"].items():
            label, _, steps = key.partition("@")
            low, high = (f"{100 * value:+.2f}" for value in row["interval"])
            cells = [f"{row['macs_removed']:.0%}", label, f"{100 * row['accuracy']:.2f}"]
            cells += [f"{100 * row['drop']:+.2f} [{low}, {high}]", steps, f"{row['duration_s'] / 60:.1f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of task names")
    parser.add_argument("--rows", nargs="+", help="rows to make")
    parser.add_argument("--steps", type=int, default=2000, help="of the optimizer")
    parser.add_argument("--limit", type=int, default=5000, help="test samples")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--table", action="store_true", help="print the record, train nothing")
    parser.add_argument("--fresh", action="store_true", help="do rows again")
    parser.add_argument("--work", type=Path, default=Path("runs/recovery"), help="where pruned networks go")
    parser.add_argument("--out", type=Path, help="where the JSON goes, and is resumed from")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    out = args.out or RESULTS / f"{date.today().isoformat()}-recovery.json"
    saved = json.loads(out.read_text()) if out.exists() and not args.fresh else {"results": {}}
    if args.table:
        print(table(saved["results"]))
        return 0
    for name in TASKS:
        if args.only and not any(part in name for part in args.only):
            continue
        bench = Bench(name, args.steps, args.limit, args.work)
        found = saved["results"].setdefault(name, {"baseline_accuracy": bench.judge.baseline().value, "rows": {}})
        print(f"\n{name}: {100 * found['baseline_accuracy']:.2f} % (n={bench.count})", flush=True)
        for row, make in bench.rows().items():
            if args.rows and row not in args.rows:
                continue
            key = row if row in ("none", "compensated") else f"{row}@{args.steps}"
            if key not in found["rows"]:
                found["rows"][key] = {
                    **bench.measured(row, make),
                    "threads": args.threads,
                    "environment": environment(),
                }
                out.write_text(json.dumps(saved, indent=1, default=str) + "\n")
            print(line(row, found["rows"][key]), flush=True)
    print(f"\nWritten: {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
