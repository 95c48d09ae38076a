"""A face detector judged by its original: what that found is the truth, and the score is the average precision.

    python detections.py model.onnx photos samples.npz      writes pictures and what the model finds in them
    onnxopt optimize model.onnx --data samples.npz --metric detections.py:average_precision ...

Needs numpy, onnxruntime and Pillow. For another detector change `SIZE`, the scaling in `pixels` and `found`.
"""

import sys
from pathlib import Path

import numpy as np

SIZE = (320, 240)
MOST = 50
SURE, LEAST = 0.5, 0.2
"""Score above which the original's boxes are the truth, and above which a candidate's are detections."""


def average_precision(outputs, labels):
    """Return the area under precision over recall, at an overlap of one half, over all pictures."""
    ranked, total = [], 0
    for scores, boxes, truth in zip(outputs["scores"], outputs["boxes"], labels, strict=True):
        left = truth[~np.isnan(truth[:, 0])]
        total += len(left)
        for score, box in found(np.squeeze(scores), np.squeeze(boxes), LEAST):
            overlaps = overlap(box, left)
            hit = bool((overlaps >= 0.5).any())
            if hit:
                left = np.delete(left, overlaps.argmax(), axis=0)
            ranked.append((score, hit))
    if not total:
        return 1.0
    hits = np.array([hit for _, hit in sorted(ranked, reverse=True)], float)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    # Precision at a recall is the best at that recall or a higher one.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best * hits).sum() / total)


def found(scores, boxes, least):
    """Return (score, box) of faces, the surest first, without those that overlap a surer one."""
    places = np.flatnonzero(scores[:, 1] >= least)
    places = places[np.argsort(-scores[places, 1])]
    kept = []
    while len(places) and len(kept) < MOST:
        box = boxes[places[0]]
        kept.append((float(scores[places[0], 1]), box))
        places = places[1:][overlap(box, boxes[places[1:]]) < 0.3]
    return kept


def overlap(box, others):
    """Return the share of the union that a box (left, top, right, bottom) and each of others both cover."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    both = np.maximum(high - low, 0).prod(1)
    areas = np.maximum(box[2:] - box[:2], 0).prod() + np.maximum(others[:, 2:] - others[:, :2], 0).prod(1)
    return both / np.maximum(areas - both, 1e-9)


def pixels(path):
    """Return a picture as the model reads it, (3, height, width)."""
    from PIL import Image

    picture = Image.open(path).convert("RGB").resize(SIZE)
    return (np.asarray(picture, np.float32).transpose(2, 0, 1) - 127) / 128


def main(model, photos, out):
    """Write inputs and the original's boxes, as many rows per picture, filled up with NaN."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    files = sorted(p for p in Path(photos).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    inputs = np.stack([pixels(file) for file in files])
    truth = np.full((len(files), MOST, 4), np.nan, np.float32)
    name = session.get_inputs()[0].name
    for row, picture in zip(truth, inputs, strict=True):
        scores, boxes = session.run(["scores", "boxes"], {name: picture[None]})
        for place, (_, box) in enumerate(found(scores[0], boxes[0], SURE)):
            row[place] = box
    np.savez(out, **{name: inputs, "y": truth})
    print(f"{len(files)} pictures, {int((~np.isnan(truth[:, :, 0])).sum())} faces: {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
