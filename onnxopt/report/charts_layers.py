"""Charts of layers, activation ranges and classes."""

from onnxopt.document import units
from onnxopt.record.analysis import ClassesRecord
from onnxopt.record.run import RunRecord
from onnxopt.report.charts import MOST_BARS, Chart, axes, bars, short, verbatim
from onnxopt.report.tables import number


def layers_chart(run: RunRecord) -> Chart | None:
    """Return the time of the slowest layers before and after."""
    found = run.analysis
    if found is None or not found.layers:
        return None
    rows = found.layers[:MOST_BARS]
    sides = [("before", "$soft", [r.before_ms for r in rows])]
    if found.after is not None:
        sides.append(("after", "$good", [r.after_ms for r in rows]))
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": list(range(len(rows))),
            "x": [value or 0 for value in values],
            "marker": {"color": colour},
            "hoverinfo": "text",
            "textposition": "none",
            "text": [
                f"{verbatim(r.name)} ({verbatim(r.op_type)}): {'-' if v is None else units.significant(v)} ms"
                for r, v in zip(rows, values, strict=True)
            ],
        }
        for name, colour, values in sides
    ]
    layout = bars([short(r.name) for r in rows], "ms per run, profiled")
    caption = "Time per layer, slowest first. The profiler slows small kernels down: compare shares, not milliseconds."
    return Chart("layers", {"data": traces, "layout": layout}, caption, 120 + 26 * len(rows))


def sensitivity_chart(run: RunRecord) -> Chart | None:
    """Return the SQNR of the outputs with one layer quantized alone, the lowest first."""
    measured = [] if run.analysis is None else [r for r in run.analysis.layers if r.sqnr_db is not None]
    rows = sorted(measured, key=lambda r: r.sqnr_db or 0)[:MOST_BARS]
    if not rows:
        return None
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(rows))),
        "x": [r.sqnr_db for r in rows],
        "marker": {"color": "$accent"},
        "hoverinfo": "text",
        "textposition": "none",
        "text": [f"{verbatim(r.name)}: {r.sqnr_db:.1f} dB" for r in rows],
    }
    layout = bars([short(r.name) for r in rows], "SQNR of the outputs, dB")
    caption = "SQNR of the outputs with only this layer quantized: a short bar is a sensitive layer."
    return Chart("sensitivity", {"data": [trace], "layout": layout}, caption, 120 + 22 * len(rows))


def ranges_chart(run: RunRecord) -> Chart | None:
    """Return the calibrated and the observed ranges of the most clipped activations."""
    rows = () if run.analysis is None else run.analysis.ranges[:MOST_BARS]
    if not rows:
        return None
    places = list(range(len(rows)))
    held = {
        "type": "bar",
        "orientation": "h",
        "name": "calibrated range",
        "y": places,
        "base": [r.low for r in rows],
        "x": [(r.high or 0) - (r.low or 0) for r in rows],
        "marker": {"color": "$band2"},
        "hoverinfo": "text",
        "textposition": "none",
        "text": [
            f"{verbatim(r.tensor)}<br>"
            f"calibrated {units.significant(r.low or 0)} to {units.significant(r.high or 0)}<br>"
            f"observed {units.significant(number(r.seen_low))} to {units.significant(number(r.seen_high))}<br>"
            f"{100 * (r.clipped or 0):.3g} % outside"
            for r in rows
        ],
    }
    seen = {
        "type": "scatter",
        "mode": "lines",
        "name": "observed",
        "x": [x for r in rows for x in (r.seen_low, r.seen_high, None)],
        "y": [y for i in places for y in (i, i, None)],
        "line": {"color": "$accent", "width": 3},
        "hoverinfo": "skip",
    }
    layout = bars([short(r.tensor) for r in rows], "value of the activation")
    layout["barmode"] = "overlay"
    samples = units.many(run.analysis.range_samples if run.analysis is not None else 0, "sample")
    caption = (
        f"Calibrated ranges of the most clipped activations, and observed values of {samples}; values outside clip."
    )
    return Chart("ranges", {"data": [held, seen], "layout": layout}, caption, 120 + 22 * len(rows))


def classes_chart(found: ClassesRecord) -> Chart:
    """Return per class the share of samples with the right answer (or with the baseline's answer)."""
    sides = [("after", "$good", found.after)]
    if found.labelled:
        sides.insert(0, ("before", "$soft", found.before))
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": list(range(len(found.labels))),
            "y": [100 * table[i][i] / max(found.samples[i], 1) for i in range(len(found.labels))],
            "marker": {"color": colour},
            "hoverinfo": "text",
            "textposition": "none",
            "text": [
                f"class {verbatim(label)}, {name}: {table[i][i]} of {found.samples[i]}"
                for i, label in enumerate(found.labels)
            ],
        }
        for name, colour, table in sides
    ]
    layout = axes("class", "% right" if found.labelled else "% same as the baseline")
    layout["xaxis"] |= {"tickvals": list(range(len(found.labels))), "ticktext": [short(x, 12) for x in found.labels]}
    layout["yaxis"]["rangemode"] = "tozero"
    return Chart(
        "classes", {"data": traces, "layout": layout | {"barmode": "group"}}, "Hold-out samples by class.", 320
    )


def confusion_chart(found: ClassesRecord) -> Chart:
    """Return the change in the number of samples per class and answer."""
    sizes = range(len(found.labels))
    moved = [[found.after[i][j] - found.before[i][j] for j in sizes] for i in sizes]
    most = max(1, *(abs(v) for row in moved for v in row))
    labels = [short(x, 12) for x in found.labels]
    trace = {
        "type": "heatmap",
        "z": moved,
        "zmin": -most,
        "zmax": most,
        "colorscale": [[0, "$accent"], [0.5, "$band"], [1, "$bad"]],
        "xgap": 1,
        "ygap": 1,
        "showscale": False,
        "hoverinfo": "text",
        "text": [
            [
                f"{labels[i]} answered as {labels[j]}: {found.before[i][j]} before, {found.after[i][j]} after"
                for j in sizes
            ]
            for i in sizes
        ],
    }
    rows = "class" if found.labelled else "baseline's answer"
    layout = axes("answer", rows)
    ticks = {"tickvals": list(sizes), "ticktext": labels}
    layout["xaxis"] |= ticks
    layout["yaxis"] |= ticks | {"autorange": "reversed"}
    caption = (
        "Change of the confusion matrix: red is more samples than before, blue fewer. Off the diagonal, red is worse."
    )
    return Chart("confusion", {"data": [trace], "layout": layout}, caption, 420)
