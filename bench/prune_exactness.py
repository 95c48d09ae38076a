"""Half of the channels of every architecture family, from both exporters of torch: is what is left exact?

    python bench/prune_exactness.py [--family resnet-basic ...] [--exporter dynamo] [--out FILE]

Weights are random, so this says nothing of accuracy. A family is exact when the smaller model gives what the original
with zeros in place of the removed channels gives: as the pass itself proves it, and again here for as many channels
chosen at random, from saved files, on inputs of the family's own at two batch sizes, with the runtime's optimizations
on and off. MACs are those of the
batch that is run. Prints one table and saves it as JSON, with the reasons of everything that stayed whole.
"""

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from architectures import EXPORTERS, FAMILIES, Family, export

from onnxopt import model_file
from onnxopt.graph.channels.cut import cut_channels, mask_channels
from onnxopt.graph.channels.find import Channels, channels_of, normalized
from onnxopt.graph.cost import macs_of
from onnxopt.graph.probe import probe
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.pipeline import Context, Pipeline
from onnxopt.target import detect

RESULTS = Path(__file__).parent / "results"
EXACT = 1e-4
"""Largest difference allowed, relative to the output's largest magnitude: as the pass itself asks."""
RATIO = 0.5
VISIBLE = 1e-2
"""Least effect of the masks, relative too: without one the comparison would say nothing."""
GOAL = 0.5
"""Share of the MACs that half of the channels should take along."""
BATCHES = (1, 3)
PRUNE = PruneChannels(ratio=RATIO, round_to=1)
"""`prune-channels{ratio=0.5,round_to=1}`: the ends of the network and the width of embeddings stay."""
PRUNE_ALL = PruneChannels(ratio=RATIO, round_to=1, protect=())
"""The same with nothing protected: what could be removed."""


def measure(family: Family, exporter: str, folder: Path) -> dict[str, Any]:
    path = folder / "model.onnx"
    try:
        export(family, exporter, path)
    except Exception as error:  # exporters raise anything
        return {"not_exported": f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]}
    model = model_file.load(path)
    before = macs(model, family)
    channels = channels_of(model)
    units = sum(group.size for group in channels.groups)
    free = sum(group.size for group in channels.groups if group.frozen is None)
    return {
        "groups": len(channels.groups),
        "groups_frozen": sum(group.frozen is not None for group in channels.groups),
        "units": units,
        "units_prunable": free,
        "macs": before,
        "frozen": Counter(g.frozen for g in channels.groups if g.frozen is not None),
        "protected": pruned(PRUNE, model, channels, family, folder, before),
        "unprotected": pruned(PRUNE_ALL, model, channels, family, folder, before),
    }


def pruned(
    spec: PruneChannels, model: ir.Model, channels: Channels, family: Family, folder: Path, before: int
) -> dict[str, Any]:
    """Prune as `spec` says, and check once more."""
    start = time.perf_counter()
    result = Pipeline((spec,)).run(model, Context(detect()))
    duration_s = time.perf_counter() - start
    (step,) = result.steps
    cut = {edit.target for edit in step.edits if " removed" in edit.action}
    found = {
        "groups_pruned": len(cut),
        "not_removed": [f"{s.target}: {s.reason}" for s in step.skipped if s.reason.startswith("not removed")],
        "skipped": Counter(s.reason for s in step.skipped),
        "macs": macs(result.model, family),
        "proved_difference": step.difference,
        "duration_s": round(duration_s, 2),
    }
    found["macs_removed"] = 1 - found["macs"] / before
    if cut:
        found |= checked(cut, channels, family, folder)
        proved = step.difference is not None and step.difference <= EXACT
        found["exact"] = proved and found["checked_difference"] <= EXACT < VISIBLE <= found["masked_away"]
    return found


def checked(pruned_groups: set[str], channels: Channels, family: Family, folder: Path) -> dict[str, float]:
    """Return how far a cut model is from the masked one, and that from the original, or the first says nothing.

    Half of the units of the groups that the pass made smaller go, chosen at random: other ones than the pass chose.
    """
    random = np.random.default_rng(0)
    kept = {
        group.name: sorted(random.choice(group.size, group.size - int(RATIO * group.size), replace=False).tolist())
        for group in channels.groups
        if group.name in pruned_groups
    }
    models = {
        "original": channels.model,
        "masked": mask_channels(channels, kept),
        "cut": cut_channels(channels, kept),
    }
    for name, model in models.items():
        model_file.save(model, folder / f"{name}.onnx", overwrite=True)
    worst = {"checked_difference": 0.0, "masked_away": 0.0}
    for optimization in ("none", "all"):
        sessions = [Session(folder / f"{name}.onnx", Runtime(optimization=optimization)) for name in models]
        for batch in BATCHES:
            for original, masked, cut in zip(*(s.run(fed(family, batch)) for s in sessions), strict=True):
                for key, one, other in (("checked_difference", masked, cut), ("masked_away", original, masked)):
                    worst[key] = max(worst[key], difference(one, other))
    return worst


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference relative to the largest magnitude of `one`; infinite where either is no number."""
    if one.shape != other.shape or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    return float(np.abs(one - other).max()) / max(float(np.abs(one).max()), 1e-30)


def fed(family: Family, batch: int) -> Mapping[str, np.ndarray]:
    feeds = family.feeds(batch, torch.Generator().manual_seed(batch))
    return {name: value.numpy() for name, value in feeds.items()}


def macs(model: ir.Model, family: Family) -> int:
    """Return the multiply-accumulates of one batch.

    Raises:
        ValueError: a layer's shape cannot be told.
    """
    shaped = normalized(model)
    shapes = probe(shaped, {name: value.shape for name, value in fed(family, BATCHES[-1]).items()}).shapes
    for node in shaped.graph:
        for value in node.outputs:
            if value.name in shapes:
                value.shape = ir.Shape(shapes[value.name])
    for value in shaped.graph.inputs:
        value.shape = ir.Shape(shapes[value.name or ""])
    counts = {node.name: macs_of(node) for node in shaped.graph}
    if None in counts.values():
        raise ValueError(f"MACs unknown of {[name for name, count in counts.items() if count is None]}")
    return sum(count or 0 for count in counts.values())


HEAD = "| family | exporter | groups | units prunable | MACs removed | unprotected | exact | difference | s |"


def line(name: str, exporter: str, found: Mapping[str, Any]) -> str:
    reason = found.get("not_exported") or found.get("crashed")
    if reason:
        kind = "not exported" if "not_exported" in found else "CRASHED"
        return f"| {name} | {exporter} | {kind}: {reason[:100]} | | | | | | |"
    both = found["protected"], found["unprotected"]
    removed = [f"{100 * p['macs_removed']:.0f} %" for p in both]
    differences = [d for p in both for d in (p["proved_difference"], p.get("checked_difference")) if d is not None]
    worst = f"{max(differences):.0e}" if differences else "-"
    cells = [
        *(name, exporter, f"{found['groups'] - found['groups_frozen']} / {found['groups']}"),
        *(f"{100 * found['units_prunable'] / max(found['units'], 1):.0f} %", *removed),
        *("yes" if exact(found) else "NO", worst if any(p["groups_pruned"] for p in both) else "nothing removed"),
        f"{both[0]['duration_s']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def exact(found: Mapping[str, Any]) -> bool:
    both = found["protected"], found["unprotected"]
    return all(p.get("exact", True) and not p["not_removed"] for p in both)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", choices=sorted(FAMILIES), help="may be repeated; all by default")
    parser.add_argument("--exporter", action="append", choices=EXPORTERS, help="may be repeated; both by default")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-prune-exactness.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{HEAD}\n|" + "---|" * (HEAD.count("|") - 1))
    rows = []
    for name in options.family or FAMILIES:
        for exporter in options.exporter or EXPORTERS:
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found = measure(FAMILIES[name], exporter, Path(folder))
                except Exception as error:
                    found = {"crashed": f"{type(error).__name__}: {error}"[:1000]}
            total = {"total_s": round(time.perf_counter() - start, 1)}
            rows.append({"family": name, "exporter": exporter, **found, **total})
            print(line(name, exporter, found), flush=True)
    done = [row for row in rows if "protected" in row]
    summary = {
        "crashed": [f"{r['family']} {r['exporter']}" for r in rows if "crashed" in r],
        "not_exported": [f"{r['family']} {r['exporter']}" for r in rows if "not_exported" in r],
        "not_exact": [f"{r['family']} {r['exporter']}" for r in done if not exact(r)],
        "below_goal": [f"{r['family']} {r['exporter']}" for r in done if r["protected"]["macs_removed"] < GOAL],
    }
    print(json.dumps(summary, indent=1))
    threads = {"torch": torch.__version__, "threads": 1, "omp_num_threads": os.environ.get("OMP_NUM_THREADS")}
    record = {"environment": {**environment(Runtime()), **threads}, "summary": summary, "families": rows}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"saved {options.out}")
    return 1 if summary["crashed"] or summary["not_exact"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
