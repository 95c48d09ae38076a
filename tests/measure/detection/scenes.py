"""Images with known boxes, and the outputs of detectors of every layout that find just these."""

from dataclasses import dataclass

import numpy as np

from onnxopt.measure.tasks.detection.tables import Yolo
from onnxopt.measure.tasks.task import ModelFacts

HEIGHT, WIDTH, CLASSES = 64, 96, 3
FEEDS = {"image": np.zeros((2, 3, HEIGHT, WIDTH), np.float32)}
NO_FACTS = ModelFacts()


@dataclass(frozen=True)
class Scene:
    """Boxes (corners in pixels), scores and classes of one image."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def scenes(count: int, seed: int = 0, *, least: int = 1) -> list[Scene]:
    """Return images with one to four objects that do not overlap: each in a quarter of its own."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        quarters = rng.permutation(4)[: rng.integers(least, 5)]
        low = np.stack((quarters % 2 * WIDTH / 2, quarters // 2 * HEIGHT / 2), axis=1)
        low = low + rng.uniform(1, 6, (len(quarters), 2))
        boxes = np.hstack((low, low + rng.uniform(12, 24, (len(quarters), 2))))
        found.append(Scene(boxes, rng.uniform(0.4, 0.95, len(quarters)), rng.integers(0, CLASSES, len(quarters))))
    return found


def cells(strides: tuple[int, ...] = (8, 16, 32)) -> np.ndarray:
    """Return `(rows, 3)`: column, row and stride of every cell."""
    parts = []
    for stride in strides:
        y, x = np.mgrid[: HEIGHT // stride, : WIDTH // stride]
        parts.append(np.stack((x.ravel(), y.ravel(), np.full(x.size, stride)), axis=1))
    return np.concatenate(parts)


def yolo(found: list[Scene], *, objectness: bool, per_cell: int = 1) -> np.ndarray:
    """Return `(n, rows, attributes)` of centers, sizes and scores in pixels; empty places have boxes too."""
    rows = np.repeat(cells(), per_cell, axis=0).astype(np.float64)
    empty = np.hstack(((rows[:, :2] + 0.5) * rows[:, 2:], np.repeat(rows[:, 2:], 2, axis=1)))
    table = np.zeros((len(found), len(rows), 4 + objectness + CLASSES))
    table[..., :4] = empty
    table[..., 4:] = 0.01
    for image, scene in enumerate(found):
        places = np.random.default_rng(image).permutation(len(rows))[: len(scene.boxes)]
        table[image, places, :2] = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2
        table[image, places, 2:4] = scene.boxes[:, 2:] - scene.boxes[:, :2]
        table[image, places, 4 + objectness + scene.classes] = scene.scores
        if objectness:
            table[image, places, 4] = 0.99
            table[image, places, 5 + scene.classes] = scene.scores / 0.99
    return table.astype(np.float32)


def yolox(found: list[Scene]) -> np.ndarray:
    """Return the rows of `yolo` as offsets in cells and logarithms of sizes."""
    table, grid = yolo(found, objectness=True).astype(np.float64), cells()
    table[..., :2] = table[..., :2] / grid[:, 2:] - grid[:, :2]
    table[..., 2:4] = np.log(table[..., 2:4] / grid[:, 2:])
    # A place without an object has a size of its own, often below the stride.
    table[..., 2:4] -= np.where(table[..., 4:5] < 0.5, 0.3, 0)
    return table.astype(np.float32)


def detections(found: list[Scene]) -> np.ndarray:
    """Return `(n, 10, 6)` corners, score and class, the surest first, filled up with zeros."""
    rows = np.zeros((len(found), 10, 6), np.float32)
    for image, scene in enumerate(found):
        order = np.argsort(-scene.scores)
        rows[image, : len(order)] = np.column_stack((scene.boxes, scene.scores, scene.classes))[order]
    return rows


def pair(found: list[Scene], *, background: bool, logits: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes `(n, rows, 4)` in shares of the image and scores `(n, rows, classes)`, as SSD and DETR do.

    SSD: corners, the background first. DETR (`logits`): centers and sizes, no object last.
    """
    table = yolo(found, objectness=False).astype(np.float64)
    centers = table[..., :4] / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    corners = np.concatenate(
        (centers[..., :2] - centers[..., 2:] / 2, centers[..., :2] + centers[..., 2:] / 2), axis=-1
    )
    scores = table[..., 4:]
    rest = np.maximum(1 - scores.sum(axis=-1, keepdims=True), 1e-3)
    if logits:
        shares = np.concatenate((scores, rest), axis=-1)
        return centers.astype(np.float32), np.log(shares / shares.sum(axis=-1, keepdims=True)).astype(np.float32) + 2
    shares = np.concatenate((rest, scores), axis=-1) if background else scores
    if background:
        shares = shares / shares.sum(axis=-1, keepdims=True)
    return corners.astype(np.float32), shares.astype(np.float32)


LAYOUT = Yolo("output0", True, False, CLASSES)


def v8(found: list[Scene]) -> dict[str, np.ndarray]:
    """Return the outputs of a YOLO v8."""
    return {"output0": yolo(found, objectness=False).swapaxes(1, 2)}
