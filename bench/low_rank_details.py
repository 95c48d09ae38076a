"""Two questions beside `low_rank.py`: how many samples low rank needs, and what narrower embeddings lose.

    python bench/low_rank_details.py
    python bench/low_rank_details.py --table --out bench/results/FILE

For the dense keyword model the last thousand clips are the test part, and calibration takes 100 to 1445 of the others.
For the SST-2 transformer `factorize-embeddings` runs without samples and with 256. Saves JSON under `bench/results/`.
"""

import argparse
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from low_rank import RESULTS, SAMPLES, one
from pack import cases, clips_of

from onnxopt import model_file
from onnxopt.graph.layers import anatomy_of
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.named import metric_of
from onnxopt.passes.factorize import Factorize
from onnxopt.passes.factorize_embeddings import FactorizeEmbeddings
from onnxopt.pipeline import Context, Pass
from onnxopt.samples import Samples
from onnxopt.target import detect

TEST = 1000
COUNTS = (100, 200, 400, 800, 1445)
LAYERS: dict[str, Pass] = {
    "second and third layer": Factorize(verify=False, rank_ratio=0.25, exclude=("fc1/MatMul_Gemm__7",)),
    "three layers": Factorize(verify=False, rank_ratio=0.25),
    "macs=0.7": Factorize(verify=False, macs=0.7),
    "macs=0.5": Factorize(verify=False, macs=0.5),
}
TABLES: dict[str, Pass] = {
    f"rank_ratio={ratio}": FactorizeEmbeddings(verify=False, rank_ratio=ratio) for ratio in (0.5, 0.25, 0.125)
}


def clips() -> dict[str, Any]:
    (case,) = cases(["tf_kws_dnn_m"])
    return rows(case, clips_of(case, -TEST, None), {n: clips_of(case, 0, n) for n in COUNTS}, LAYERS)


def embeddings() -> dict[str, Any]:
    (case,) = cases(["text_sst2_bert_l2_d192"])
    return rows(case, case.test(), {0: None, SAMPLES: case.calibration().take(SAMPLES)}, TABLES)


def rows(case: Any, test: Samples, parts: dict[int, Samples | None], specs: dict[str, Pass]) -> dict[str, Any]:
    model = model_file.load(case.path)
    judge = LabelJudge(model, test, Runtime(), metric_of("top1", label_offset=case.label_offset))

    def measured() -> Iterator[dict[str, Any]]:
        for count, samples in parts.items():
            for setting, spec in specs.items():
                row = one(spec, model, Context(detect(), samples), judge, anatomy_of(model))
                row.pop("built")
                print(
                    f"{case.name} {count:5} {setting:24} {row['size_share']:5.0%} {100 * row['drop']:+6.2f}", flush=True
                )
                yield {"samples": count, "setting": setting, **row}

    return {
        "model": case.name,
        "n": len(test),
        "baseline_accuracy": judge.baseline().value,
        "rows": list(measured()),
    }


def tables(found: dict[str, Any]) -> list[str]:
    """Return what was measured as Markdown tables: by settings and samples."""
    return [crossed(found[part]["rows"]) for part in ("clips", "embeddings")]


def crossed(measured: list[dict[str, Any]]) -> str:
    settings, counts = (list(dict.fromkeys(row[key] for row in measured)) for key in ("setting", "samples"))
    drops = {(row["setting"], row["samples"]): f"{100 * row['drop']:.2f}" for row in measured}
    sizes = {row["setting"]: f"{row['size_share']:.0%}" for row in measured}
    lines = [f"| | file | {' | '.join(f'{count} samples' for count in counts)} |", "|---" * (len(counts) + 2) + "|"]
    lines += [f"| {name} | {sizes[name]} | {' | '.join(drops[name, n] for n in counts)} |" for name in settings]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today().isoformat()}-low-rank-details.json")
    parser.add_argument("--table", action="store_true", help="print what the file has, and measure nothing")
    args = parser.parse_args()
    if args.table:
        print("\n\n".join(tables(json.loads(args.out.read_text()))))
        return 0
    found = {"environment": environment(), "clips": clips(), "embeddings": embeddings()}
    model_file.atomic_write_text(args.out, json.dumps(found, indent=1, default=str) + "\n", overwrite=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
