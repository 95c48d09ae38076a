"""The record of `bench/optimize.py` as Markdown, and a summary that counts every model."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from peers import PEERS

PARITY = 0.97
"""Closer than 3 % is no difference on a noisy machine."""

CLASSES = (0.999, 0.99)
REDUCING = ("prune", "factorize", "depthwise-separable", "distill", "share", "finetune", "qat")
"""Beginnings of the names of passes that do more than quantize."""

NOT_PEERS = ("baseline", "onnxopt", "again")


def behind(rows: Mapping[str, Any], allowed: float) -> list[str]:
    """Return what is inside the budget and faster than ours beyond doubt, by more than parity."""
    ours = rows["onnxopt"]["speedup"]
    if ours is None:
        return []
    inside = [
        (name, row["speedup"])
        for name, row in rows.items()
        if name not in NOT_PEERS and row["drop"] <= allowed and row["speedup"]
    ]
    return [name for name, s in inside if ours["value"] < PARITY * s["value"] and ours["high"] < s["low"]]


def summary(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ours = [m["rows"]["onnxopt"] for m in models]
    errors = [mix["measured"] / mix["predicted"] - 1 for m in models for mix in m.get("mixes", {}).values()]
    sizes = [m["rows"]["baseline"]["size_bytes"] / r["size_bytes"] for m, r in zip(models, ours, strict=True)]
    wide = [i for i, m in enumerate(models) if m.get("wide")]
    wide_speeds = [s["value"] for i in wide if (s := ours[i]["speedup"])]
    return {
        "models": len(models),
        "median_speedup": float(np.median([r["speedup"]["value"] for r in ours if r["speedup"]])),
        "unsure": [m["model"] for m in models if not m["rows"]["onnxopt"]["speedup"]],
        "nothing_gained": [m["model"] for m in models if m["winner"] is None],
        "baseline_differs_from_itself": [
            m["model"] for m in models if (s := m["rows"]["again"]["speedup"]) and not s["low"] <= 1 <= s["high"]
        ],
        "median_size_ratio": float(np.median(sizes)),
        "wide": [models[i]["model"] for i in wide],
        "wide_median_speedup": float(np.median(wide_speeds)) if wide_speeds else None,
        "wide_median_size_ratio": float(np.median([sizes[i] for i in wide])) if wide else None,
        "mixes": len(errors),
        "mixes_median_error": float(np.median(np.abs(errors))) if errors else None,
        "mixes_within_15_percent": sum(abs(error) <= 0.15 for error in errors),
        "over_budget": [m["model"] for m in models if m["rows"]["onnxopt"]["drop"] > m["allowed_drop"]],
        "slower_than_fp32": [m["model"] for m in models if (s := m["rows"]["onnxopt"]["speedup"]) and s["high"] < 1],
        "behind": {m["model"]: found for m in models if (found := behind(m["rows"], m["allowed_drop"]))},
    }


def table(models: Sequence[Mapping[str, Any]]) -> str:
    """Return the record as Markdown: drop in points, speed-up over FP32 in ONNX Runtime and its 95 % interval."""
    heads = ("model (n)", "FP32", "onnxopt", "drop", "speed-up", "size", "minutes", "division", "class")
    heads += ("quantization alone",)
    outside = any(m["outside"] for m in models)
    heads = (*heads, *PEERS, *(("OpenVINO FP32", "NNCF in OpenVINO") if outside else ()))
    lines = ["| " + " | ".join(heads) + " |", "|---|--:|---|" + "--:|" * (len(heads) - 3)]
    for m in models:
        ours, size = m["rows"]["onnxopt"], m["rows"]["baseline"]["size_bytes"]
        cells = [f"{m['model']} ({m['n']})", f"{100 * m['baseline_accuracy']:.2f}", m["winner"] or "baseline kept"]
        cells += [f"{100 * ours['drop']:+.2f}", _interval(ours["speedup"])]
        cells += [f"{size / ours['size_bytes']:.1f}x", f"{m['search_s'] / 60:.1f}"]
        cells += [division(m.get("passes") or ()), _class(m)]
        cells += [_peer(m, name) for name in ("quantized", *PEERS)]
        cells += outside_cells(m["outside"]) if outside else []
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def reduces(passes: Iterable[str]) -> bool:
    """Return whether any of the passes, as texts or as they are shown in Python, does more than quantize."""
    return any(re.sub(r"(?<=[a-z])(?=[A-Z])", "-", each).lower().startswith(REDUCING) for each in passes)


def division(passes: Sequence[str]) -> str:
    """Return the division of a model: MLPerf's closed one is `quantized only`, its open one `pruned/trained`."""
    return ("pruned/trained" if reduces(passes) else "quantized only") if passes else "-"


def of_class(kept: float) -> str:
    """Return the class of a model: the share of FP32's accuracy that it keeps at least."""
    return next((f">= {100 * least:g} %" for least in CLASSES if kept >= least), f"below {100 * CLASSES[-1]:g} %")


def _class(model: Mapping[str, Any]) -> str:
    return of_class(1 - model["rows"]["onnxopt"]["drop"] / model["baseline_accuracy"])


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


TITLES: Mapping[str, str] = MappingProxyType(
    {
        "mobilenetv2_1.0_224_nchw": "MobileNetV2 1.0, ImageNet (a)",
        "caffe2_squeezenet1.1_ir3_op7": "SqueezeNet 1.1, ImageNet",
        "tflite_mobilenetv1_0.5_160_qat": "MobileNetV1 0.5, ImageNet (a)",
        "tflite_mobilenetv1_0.25_128_qat": "MobileNetV1 0.25, ImageNet (a)",
        "cifar10_resnet20": "ResNet-20, CIFAR-10, other weights",
        "cifar10_resnet32": "ResNet-32, CIFAR-10, other weights",
        "cifar10_resnet56": "ResNet-56, CIFAR-10, other weights",
        "cifar10_ch_resnet20": "ResNet-20 (channels last), CIFAR-10",
        "cifar10_jpeg_resnet20": "ResNet-20, CIFAR-10",
        "cifar10_jpeg_resnet56": "ResNet-56, CIFAR-10",
        "cifar10_jpeg_resnet9": "ResNet-9 (wide), CIFAR-10",
        "keras_mlperf_resnet8_cifar10": "MLPerf Tiny ResNet-8, CIFAR-10",
        "tf_kws_ds_cnn_s": "DS-CNN S, keywords",
        "tf_kws_ds_cnn_l": "DS-CNN L, keywords",
        "tf_kws_lstm_m": "LSTM M, keywords",
        "tf_kws_dnn_m": "DNN M, keywords",
        "text_sst2_bert_l2_d192": "2-layer transformer, SST-2",
        "sklearn_mlp_digits": "MLP, digits",
        "sklearn_logreg_digits": "logistic regression, digits",
        "sklearn_forest_digits": "random forest, digits",
        "sklearn_mlp_breast_cancer_zipmap": "MLP, breast cancer",
        "mnist_cntk": "CNN, MNIST",
    }
)
"""Models as a reader knows them. (a) trained for 8 bits."""

SHORT = ("model (test samples)", "FP32 top-1", "onnxopt", "class", "drop", "speed-up", "size", "quantized only")
DIVISIONS = MappingProxyType({"quantized only": "closed", "pruned/trained": "open"})
"""MLPerf's words, which are shorter."""


def short_table(models: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of the README."""
    lines = ["| " + " | ".join((*SHORT, *PEERS)) + " |", "|---|--:|---|---|" + "--:|" * (len(SHORT) - 4 + len(PEERS))]
    for m in models:
        ours, size = m["rows"]["onnxopt"], m["rows"]["baseline"]["size_bytes"]
        cells = [f"{TITLES.get(m['model'], m['model'])} ({m['n']})", f"{100 * m['baseline_accuracy']:.2f} %"]
        cells += [m["winner"] or "baseline kept", _short_class(m)]
        cells += [f"{100 * ours['drop']:+.2f}", _interval(ours["speedup"])]
        cells += [f"{size / ours['size_bytes']:.1f}x", *(_peer(m, name) for name in ("quantized", *PEERS))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _short_class(model: Mapping[str, Any]) -> str:
    """Return division and class in one cell; "-" where the baseline is kept."""
    found = DIVISIONS.get(division(model.get("passes") or ()))
    return f"{found}, {_class(model).removeprefix('>= ')}" if found else "-"


def _peer(model: Mapping[str, Any], name: str) -> str:
    row = model["rows"].get(name)
    if row is None:
        return "fails" if name in model["failures"] else "-"
    return f"{100 * row['drop']:+.2f}, {_times(row['speedup'])}"
