"""Predictions of deployed models, decoded by the bench's own code, and their agreement between two models."""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

Outputs = Mapping[str, np.ndarray]
Boxes = list[tuple[int, float, tuple[float, float, float, float]]]
"""Class, score and corners."""
SURE = 0.25


@dataclass(frozen=True)
class Reading:
    """Decoder of the outputs of one run, and comparison of the predictions of two models: the first figure decides."""

    read: Callable[[Outputs], Any]
    agree: Callable[[Sequence[Any], Sequence[Any]], dict[str, float]]


# Boxes


def thinned(boxes: Boxes, iou: float = 0.45) -> Boxes:
    kept: Boxes = []
    for box in sorted(boxes, key=lambda b: -b[1]):
        if all(box[0] != other[0] or union_share(box[2], other[2]) <= iou for other in kept):
            kept.append(box)
    return kept


def union_share(one: Sequence[float], other: Sequence[float]) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    both = max(across, 0) * max(down, 0)
    whole = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both
    return both / whole if whole > 0 else 0.0


def yolo_v8(outputs: Outputs, least: float = SURE) -> Boxes:
    found = []
    for column in outputs["output0"][0].T:
        c = int(column[4:].argmax())
        if column[4 + c] >= least:
            x, y, w, h = map(float, column[:4])
            found.append((c, float(column[4 + c]), (x - w / 2, y - h / 2, x + w / 2, y + h / 2)))
    return thinned(found)


def yolox(outputs: Outputs, side: int = 416, least: float = SURE) -> Boxes:
    rows, start, found = outputs["output"][0], 0, []
    for stride in (8, 16, 32):
        cells = side // stride
        for place in range(cells * cells):
            x, y, w, h, there, score = map(float, rows[start + place])
            if there * score >= least:
                center = ((x + place % cells) * stride, (y + place // cells) * stride)
                half = (np.exp(w) * stride / 2, np.exp(h) * stride / 2)
                corners = (center[0] - half[0], center[1] - half[1], center[0] + half[0], center[1] + half[1])
                found.append((0, there * score, corners))
        start += cells * cells
    return thinned(found)


def faces(outputs: Outputs, *, decoded: bool, least: float = SURE) -> Boxes:
    scores, boxes, found = outputs["scores"][0][:, 1], outputs["boxes"][0], []
    priors = None if decoded else face_priors()
    for place in np.flatnonzero(scores >= least):
        box = boxes[place].astype(float)
        if priors is not None:
            x, y, w, h = priors[place]
            x, y = x + box[0] * 0.1 * w, y + box[1] * 0.1 * h
            w, h = w * np.exp(box[2] * 0.2), h * np.exp(box[3] * 0.2)
            box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        found.append((0, float(scores[place]), tuple(map(float, box))))
    return thinned(found)  # type: ignore[arg-type]


def face_priors(width: int = 320, height: int = 240) -> list[tuple[float, float, float, float]]:
    sides = {8: (10, 16, 24), 16: (32, 48), 32: (64, 96), 64: (128, 192, 256)}
    return [
        (min((i + 0.5) * stride / width, 1), min((j + 0.5) * stride / height, 1), min(s / width, 1), min(s / height, 1))
        for stride, some in sides.items()
        for j in range(-(-height // stride))
        for i in range(-(-width // stride))
        for s in some
    ]


def boxes_kept(before: Sequence[Boxes], after: Sequence[Boxes]) -> dict[str, float]:
    """Return COCO's average precision with the baseline's boxes as the truth, and shares of boxes kept and invented."""
    there = found = kept = 0
    for one, other in zip(before, after, strict=True):
        left = list(other)
        for box in one:
            match = next((b for b in left if b[0] == box[0] and union_share(b[2], box[2]) >= 0.5), None)
            if match is not None:
                left.remove(match)
                kept += 1
        there, found = there + len(one), found + len(other)
    whole, half = coco(before, after)
    share = kept / there if there else float("nan")
    return {"AP": whole, "AP50": half, "kept": share, "boxes": there, "found": found}


def coco(truth: Sequence[Boxes], found: Sequence[Boxes]) -> tuple[float, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def shape(box: Sequence[float]) -> list[float]:
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    classes = sorted({c for image in truth for c, _, _ in image})
    known = COCO()
    entries = [(i, box) for i, image in enumerate(truth, 1) for box in image]
    known.dataset = {
        "images": [{"id": i + 1} for i in range(len(truth))],
        "categories": [{"id": c} for c in classes],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": shape(box), "area": 1.0, "iscrowd": 0}
            for n, (i, (c, _, box)) in enumerate(entries, 1)
        ],
    }
    results = [
        {"image_id": i, "category_id": c, "bbox": shape(box), "score": score}
        for i, image in enumerate(found, 1)
        for c, score, box in image
        if c in classes
    ]
    if not entries:
        return float("nan"), float("nan")
    if not results:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        known.createIndex()
        judge = COCOeval(known, known.loadRes(results), "bbox")
        judge.params.areaRng, judge.params.areaRngLbl, judge.params.maxDets = [[0, 1e10]], ["all"], [100]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"]
    return float(precision[precision > -1].mean()), float(precision[0][precision[0] > -1].mean())


# Text


def ctc(outputs: Outputs, *, time_first: bool) -> str:
    table = next(iter(outputs.values()))
    steps = (table[:, 0] if time_first else table[0]).argmax(axis=-1)
    kept = [int(s) for i, s in enumerate(steps) if s and (i == 0 or s != steps[i - 1])]
    return "".join(map(chr, (0xE000 + k for k in kept)))  # one private character per class: no dictionary is needed


def same_text(before: Sequence[str], after: Sequence[str]) -> dict[str, float]:
    edits = sum(distance(one, other) for one, other in zip(before, after, strict=True))
    same = sum(one == other for one, other in zip(before, after, strict=True))
    return {"exact": same / len(before), "1 - CER": 1 - edits / max(sum(map(len, before)), 1)}


def distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


# Regions of text


def regions(outputs: Outputs) -> Boxes:
    mask, _ = ndimage.label(next(iter(outputs.values()))[0, 0] > 0.3)
    parts = ndimage.find_objects(mask)
    return [(0, 1.0, (p[1].start, p[0].start, p[1].stop, p[0].stop)) for p in parts if p[0].stop - p[0].start > 3]


def same_regions(before: Sequence[Boxes], after: Sequence[Boxes]) -> dict[str, float]:
    figures = boxes_kept(before, after)
    total = figures["boxes"] + figures["found"]
    score = 2 * figures["kept"] * figures["boxes"] / total if total else float("nan")
    return {"F1": score, "regions": figures["boxes"], "found": figures["found"]}


# Classes and speech


def best(outputs: Outputs) -> int:
    return int(next(iter(outputs.values()))[0].argmax())


def speaks(outputs: Outputs) -> bool:
    return bool(outputs["output"].ravel()[0] >= 0.5)


def same(before: Sequence[Any], after: Sequence[Any]) -> dict[str, float]:
    return {"same": float(np.mean([one == other for one, other in zip(before, after, strict=True)]))}
