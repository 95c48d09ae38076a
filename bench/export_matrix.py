"""Export small networks of every framework that is installed here, verify them, then simplify, prune and quantize them.

Frameworks cannot all be installed together: run this once in each environment; rows are added to the same file.

    python bench/export_matrix.py torch sklearn
    python bench/export_matrix.py --table
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import onnxopt
from onnxopt.errors import OnnxoptError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).parent
RESULTS = HERE / "results" / "2026-11-23-export.json"
NETWORKS = ("mlp", "cnn", "transformer", "lstm")
TABLES = {
    "sklearn": ("logistic_pipeline", "mlp_classifier", "forest_regressor"),
    "xgboost": ("xgboost_classifier", "xgboost_booster"),
    "lightgbm": ("lightgbm_classifier", "lightgbm_booster"),
}
STEPS = {"simplify": "simplify", "prune": "simplify,prune-channels{ratio=0.25}", "quantize": "simplify,quantize-static"}

Source = tuple[str, str, dict[str, Any]]


def plain(file: str) -> Callable[[Path], Iterator[Source]]:
    return lambda _: ((name, f"{HERE / 'export_models' / file}:{name}", {}) for name in NETWORKS)


def torch_sources(_: Path) -> Iterator[Source]:
    for kind in ("dynamo", "torchscript"):
        yield from ((n, s, {"exporter": kind}) for n, s, _ in plain("torch_nets.py")(_))


def tables(framework: str) -> Callable[[Path], Iterator[Source]]:
    return lambda _: ((n, f"{HERE / 'export_models' / 'table_models.py'}:{n}", {}) for n in TABLES[framework])


def saved_models(folder: Path) -> Iterator[Source]:
    for name, model, inputs in _keras():
        model.export(folder / name, verbose=False)
        yield name, str(folder / name), {"inputs": inputs}


def tflite_files(folder: Path) -> Iterator[Source]:
    import tensorflow

    # The converter to TFLite does not take loops of an open batch size.
    for name, model, inputs in _keras(unroll=True):
        path = folder / f"{name}.tflite"
        path.write_bytes(tensorflow.lite.TFLiteConverter.from_keras_model(model).convert())
        yield name, str(path), {"inputs": inputs[:1]}


def _keras(*, unroll: bool = False) -> Iterator[tuple[str, Any, np.ndarray]]:
    sys.path.insert(0, str(HERE / "export_models"))
    import keras_nets

    for name in NETWORKS:
        options = {"unroll": unroll} if name == "lstm" else {}
        yield name, *getattr(keras_nets, name)(**options)


FRAMEWORKS: dict[str, Callable[[Path], Iterator[Source]]] = {
    "torch": torch_sources,
    "keras": plain("keras_nets.py"),
    "saved-model": saved_models,
    "tflite": tflite_files,
    "sklearn": tables("sklearn"),
    "xgboost": tables("xgboost"),
    "lightgbm": tables("lightgbm"),
    "jax": plain("flax_nets.py"),
    "paddle": plain("paddle_nets.py"),
}


def row(framework: str, network: str, source: str, options: dict[str, Any]) -> dict[str, Any]:
    about = {"framework": framework, "network": network}
    try:
        made = onnxopt.export(source, **options)
    except OnnxoptError as error:
        return about | {"exporter": options.get("exporter") or exporter_of(framework), "error": str(error)}
    found = about | {
        "exporter": made.exporter,
        "versions": dict(made.versions),
        "difference": made.verified.difference,
        "rows_apart": made.verified.rows_apart,
        "notes": list(made.notes),
    }
    return found | {step: outcome(made, passes) for step, passes in STEPS.items()}


def exporter_of(framework: str) -> str:
    """Return the name under which a result would have come."""
    if framework == "keras":
        import keras

        return f"Keras on {keras.backend.backend()}"
    return {"tflite": "tf2onnx (TFLite)", "saved-model": "tf2onnx (serving_default)"}.get(framework, framework)


def outcome(made: Any, passes: str) -> str:
    """Say how many edits the last pass made, or why there is no result."""
    try:
        after = onnxopt.apply(made.model, passes, dict(made.example))
    except OnnxoptError as error:
        return str(error)
    steps = after.optimized.steps
    return f"{len(steps[-1].edits)} edits, {len(steps[-1].skipped)} left alone"


def table(rows: list[dict[str, Any]]) -> str:
    """Return one line per exporter with the largest difference of each network, and one per model of tables."""
    rows = sorted(rows, key=lambda r: [*FRAMEWORKS].index(r["framework"]))
    lines = ["| exporter | versions | MLP | CNN | transformer | LSTM |", "|---|---|--:|--:|--:|--:|"]
    nets = [r for r in rows if r["network"] in NETWORKS]
    for exporter in dict.fromkeys(r["exporter"] for r in nets):
        found = {r["network"]: r for r in nets if r["exporter"] == exporter}
        cells = (_cell(found.get(network)) for network in NETWORKS)
        lines.append(f"| {exporter} | {_versions(next(iter(found.values())))} | {' | '.join(cells)} |")
    lines += ["", "| exporter | versions | model | difference |", "|---|---|---|--:|"]
    for r in rows:
        if r["network"] not in NETWORKS:
            lines.append(f"| {r['exporter']} | {_versions(r)} | {r['network'].replace('_', ' ')} | {_cell(r)} |")
    return "\n".join(lines)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not run"
    return f"{found['difference']:.1e}" if "error" not in found else found["error"].partition(":")[0]


def _versions(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.get("versions", {}).items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frameworks", nargs="*", choices=[*FRAMEWORKS, []])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the results as Markdown")
    given = parser.parse_args()
    kept = json.loads(given.out.read_text())["rows"] if given.out.exists() else []
    host = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for framework in given.frameworks:
        with tempfile.TemporaryDirectory() as folder:
            for network, source, options in FRAMEWORKS[framework](Path(folder)):
                made = row(framework, network, source, options)
                same = [made["framework"], made["network"], made["exporter"]]
                kept = [r for r in kept if [r["framework"], r["network"], r["exporter"]] != same] + [made]
                print(json.dumps(kept[-1]), flush=True)
                given.out.write_text(json.dumps({"host": host, "rows": kept}, indent=1) + "\n")
    if given.table:
        print(table(kept))


if __name__ == "__main__":
    main()
