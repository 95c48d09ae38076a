"""Recognition of a detector's output layout, by evidence or by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from onnxopt.errors import UsageError, nearest
from onnxopt.measure.metrics.outputs import misfit
from onnxopt.measure.tasks.detection.evidence import Finding, OutputView
from onnxopt.measure.tasks.detection.find_lists import end_to_end, lists, selected
from onnxopt.measure.tasks.detection.find_pairs import detr, pair, ultraface
from onnxopt.measure.tasks.detection.find_tables import yolo

Finder = Callable[[OutputView, bool], Finding | None]
LAYOUTS: Mapping[str, Finder] = MappingProxyType(
    {
        "selected": selected,
        "lists": lists,
        "end2end": end_to_end,
        "detr": detr,
        "ssd": pair,
        "ultraface": ultraface,
        "yolov5": lambda view, named: yolo(view, named, True, False),
        "yolov8": lambda view, named: yolo(view, named, False, False),
        "yolox": lambda view, named: yolo(view, named, True, True),
    }
)
"""Finders by their name for `--decode`; the layouts with the clearest evidence come first."""
_UNNAMED: tuple[Finder, ...] = (selected, lists, end_to_end, detr, pair, yolo)


def find(view: OutputView) -> Finding | None:
    """Return the layout of the outputs; None without clear evidence."""
    return next((found for finder in _UNNAMED if (found := finder(view, False)) is not None), None)


def named_layout(view: OutputView, name: str) -> Finding:
    """Return the layout that the user named.

    Raises:
        UsageError: ONX102 no layout has this name.
        DataError: ONX209 the outputs cannot have this layout.
    """
    if name not in LAYOUTS:
        raise UsageError("ONX102", "unknown layout of a detector's outputs", where=name, hint=nearest(name, LAYOUTS))
    found = LAYOUTS[name](view, True)
    if found is None:
        shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in view.outputs.items())
        raise misfit(f"the outputs are {shapes}", f"Known layouts: {', '.join(LAYOUTS)}.", where=name)
    return found[0], f"--decode names the layout {name!r}"
