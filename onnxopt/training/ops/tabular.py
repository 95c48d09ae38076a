"""Operators of ai.onnx.ml that compute with numbers, and those of old image models."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from onnxopt.training.ops.rule import Apply, Rule, Site, as_it_stands


def _scaler(site: Site) -> Apply:
    offset, scale = torch.tensor(site.get("offset", [0.0])), torch.tensor(site.get("scale", [1.0]))
    return lambda x: (x.to(torch.float32) - offset.to(x.device)) * scale.to(x.device)


def _normalizer(site: Site) -> Apply:
    kind = site.get("norm", "MAX")
    order = {"MAX": float("inf"), "L1": 1.0, "L2": 2.0}[kind]

    def apply(x: Tensor) -> Tensor:
        # The largest value, not the largest magnitude.
        size = x.amax(-1, keepdim=True) if kind == "MAX" else torch.linalg.vector_norm(x, order, -1, keepdim=True)
        return x / torch.where(size == 0, torch.ones_like(size), size)

    return apply


def _post(site: Site) -> Apply:
    kind = site.get("post_transform", "NONE")
    known: dict[str, Apply] = {
        "NONE": lambda x: x,
        "LOGISTIC": torch.sigmoid,
        "SOFTMAX": lambda x: torch.softmax(x, -1),
    }
    if kind not in known:
        raise site.refuse(f"its post_transform is {kind}")
    return known[kind]


def _linear_classifier(site: Site) -> Apply:
    integers, strings = site.get("classlabels_ints"), site.get("classlabels_strings")
    classes, post = len(integers or strings or ()), _post(site)
    weight = torch.tensor(site.get("coefficients")).reshape(classes, -1)
    bias = torch.tensor(site.get("intercepts", [0.0] * classes))
    if len(bias) != classes or classes < 2:
        raise site.refuse("it has one score for two classes")

    def apply(x: Tensor) -> Any:
        scores = x.to(torch.float32) @ weight.to(x.device).t() + bias.to(x.device)
        best = scores.argmax(-1)
        # Names of classes cannot be tensors; nothing that is trained reads them.
        return (None if integers is None else torch.tensor(integers, device=x.device)[best]), post(scores)

    return apply


def _linear_regressor(site: Site) -> Apply:
    targets, post = site.get("targets", 1), _post(site)
    weight = torch.tensor(site.get("coefficients")).reshape(targets, -1)
    bias = torch.tensor(site.get("intercepts", [0.0] * targets))
    return lambda x: post(x.to(torch.float32) @ weight.to(x.device).t() + bias.to(x.device))


def _image_scaler(site: Site) -> Apply:
    scale, bias = site.get("scale", 1.0), torch.tensor(site.get("bias")).reshape(-1, 1, 1)
    return lambda x: scale * x + bias.to(x.device)


RULES: Mapping[str, Rule] = {
    "ArrayFeatureExtractor": as_it_stands(lambda x, index: x.index_select(-1, index.reshape(-1).long())),
    "LinearClassifier": Rule(_linear_classifier),
    "LinearRegressor": Rule(_linear_regressor),
    "Normalizer": Rule(_normalizer),
    "Scaler": Rule(_scaler),
    # Scores stay columns in the order of the classes.
    "ZipMap": as_it_stands(lambda x: x),
}

STANDARD: Mapping[str, Rule] = {"ImageScaler": Rule(_image_scaler)}
"""Of the standard domain, though no standard names them any more."""
