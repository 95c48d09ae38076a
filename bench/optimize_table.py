"""The record of `bench/optimize.py` as Markdown, and a summary that counts every model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from peers import PEERS

PARITY = 0.97
"""Closer than 3 % is no difference on a noisy machine."""

NOT_PEERS = ("baseline", "onnxopt", "again")


def behind(rows: Mapping[str, Any], allowed: float) -> list[str]:
    """Return what is inside the budget and clearly faster than ours."""
    ours = rows["onnxopt"]["speedup"]
    if ours is None:
        return []
    inside = [
        name for name in rows if name not in NOT_PEERS and rows[name]["drop"] <= allowed and rows[name]["speedup"]
    ]
    return [name for name in inside if ours["value"] < PARITY * rows[name]["speedup"]["value"]]


def summary(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ours = [m["rows"]["onnxopt"] for m in models]
    errors = [mix["measured"] / mix["predicted"] - 1 for m in models for mix in m.get("mixes", {}).values()]
    sizes = [m["rows"]["baseline"]["size_bytes"] / r["size_bytes"] for m, r in zip(models, ours, strict=True)]
    return {
        "models": len(models),
        "median_speedup": float(np.median([r["speedup"]["value"] for r in ours if r["speedup"]])),
        "unsure": [m["model"] for m in models if not m["rows"]["onnxopt"]["speedup"]],
        "nothing_gained": [m["model"] for m in models if m["winner"] is None],
        "baseline_differs_from_itself": [
            m["model"] for m in models if (s := m["rows"]["again"]["speedup"]) and not s["low"] <= 1 <= s["high"]
        ],
        "median_size_ratio": float(np.median(sizes)),
        "mixes": len(errors),
        "mixes_median_error": float(np.median(np.abs(errors))) if errors else None,
        "mixes_within_15_percent": sum(abs(error) <= 0.15 for error in errors),
        "over_budget": [m["model"] for m in models if m["rows"]["onnxopt"]["drop"] > m["allowed_drop"]],
        "slower_than_fp32": [m["model"] for m in models if (s := m["rows"]["onnxopt"]["speedup"]) and s["high"] < 1],
        "behind": {m["model"]: m["behind"] for m in models if m["behind"]},
    }


def table(models: Sequence[Mapping[str, Any]]) -> str:
    """Return the record as Markdown: drop in points, speed-up over FP32 in ONNX Runtime and its 95 % interval."""
    heads = ("model (n)", "FP32", "onnxopt", "drop", "speed-up", "size", "minutes", "quantization alone")
    heads = (*heads, *PEERS, "OpenVINO FP32", "NNCF in OpenVINO")
    lines = ["| " + " | ".join(heads) + " |", "|---|--:|---|" + "--:|" * (len(heads) - 3)]
    for m in models:
        ours, size = m["rows"]["onnxopt"], m["rows"]["baseline"]["size_bytes"]
        cells = [f"{m['model']} ({m['n']})", f"{100 * m['baseline_accuracy']:.2f}", m["winner"] or "baseline kept"]
        cells += [f"{100 * ours['drop']:+.2f}", _interval(ours["speedup"])]
        cells += [f"{size / ours['size_bytes']:.1f}x", f"{m['search_s'] / 60:.1f}"]
        for name in ("quantized", *PEERS):
            row = m["rows"].get(name)
            none = "fails" if name in m["failures"] else "-"
            cells.append(none if row is None else f"{100 * row['drop']:+.2f}, {_times(row['speedup'])}")
        cells += outside_cells(m["outside"])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _interval(speedup: Mapping[str, float] | None) -> str:
    return f"**{_times(speedup)}** [{speedup['low']:.2f}, {speedup['high']:.2f}]" if speedup else "unsure"


def _times(speedup: Mapping[str, float] | None) -> str:
    return f"{speedup['value']:.2f}x" if speedup else "unsure"


def outside_cells(found: Mapping[str, Any] | None) -> list[str]:
    if not found or "failure" in found:
        return ["fails" if found else "-"] * 2
    p50, accuracy = found["p50_ms"], found["accuracy"]
    drop = accuracy["onnxruntime"] - accuracy["openvino-int8"]
    times = [p50["onnxruntime"] / p50[name] for name in ("openvino", "openvino-int8")]
    return [f"{times[0]:.2f}x", f"{100 * drop:+.2f}, {times[1]:.2f}x"]
