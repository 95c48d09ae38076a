"""How a comparison is shown."""

from onnxopt.report import units
from onnxopt.report.comparison import Compared, Judged
from onnxopt.report.details import details_rows, evened_sentence
from onnxopt.report.document import Column, Document, Table, Text
from onnxopt.report.recording import drop_record, latency_record, left_out_sentence, score_record


def compare_document(result: Compared) -> Document:
    """Return one row per figure: both models, the difference, its interval."""
    columns = (Column("figure"), *(Column(title, number=True) for title in ("A", "B", "B against A")), Column("n"))
    rows = []
    if result.accuracy is not None:
        rows.append(_judged(result.accuracy, result.accuracy.metric))
    rows.append(_judged(result.fidelity, f"fidelity:\n{result.fidelity.metric}"))
    for judged in filter(None, (result.accuracy, result.fidelity)):
        rows += details_rows(judged.before, judged.after)
    before, after = result.latency
    speedup = after.speedup
    words = "-" if speedup is None else units.faster(speedup.low, speedup.value, speedup.high)
    words = "unsure" if after.unsure else words
    faster = words.replace(" (", "\n(")
    p50s = ("-", "-") if after.unsure else (units.significant(before.p50_ms), units.significant(after.p50_ms))
    rows.append((f"p50 ms, batch {after.batch_size}", *p50s, faster, f"{before.n}, {after.n}"))
    rows.append(("p90 ms", units.significant(before.p90_ms), units.significant(after.p90_ms), "", ""))
    sizes = tuple(map(units.size, result.size_bytes))
    rows.append(("size", *sizes, units.smaller(result.size_bytes[0] / result.size_bytes[1]), ""))
    first, second = result.names
    decides = result.accuracy or result.fidelity
    evened = evened_sentence(drop_record(decides.drop), decides.allowed, decides.unit)
    lines = [f"A is {first}.", f"B is {second}.", _verdict(decides), *filter(None, [evened])]
    if after.unsure:
        lines.append(f"Which is faster stays unsure: {after.unsure}.")
    first_lines = tuple(filter(None, (result.choice, left_out_sentence(result.left_out))))
    return Document((Text(first_lines), Table(columns, tuple(rows)), Text(tuple(lines))), _data(result))


def _judged(judged: Judged, name: str) -> tuple[str, ...]:
    drop = judged.drop
    points = " points" if judged.unit == "share" else ""
    word = "drops" if drop.value >= 0 else "gains"
    difference = f"{word} {units.points(abs(drop.value), judged.unit)}{points}"
    interval = units.points_interval(drop.interval, judged.unit)
    scores = (units.score(judged.before.value, judged.unit), units.score(judged.after.value, judged.unit))
    return (name, *scores, f"{difference}\n{interval}", str(drop.n))


def _verdict(judged: Judged) -> str:
    confidence = units.percent(judged.drop.probability_within(judged.allowed))
    allowed = units.points(judged.allowed, judged.unit)
    inside = "inside" if judged.within else "NOT inside"
    return (
        f"The drop of {judged.metric} is {inside} the {allowed} allowed; that the true one is inside has a "
        f"probability of {confidence}."
    )


def _data(result: Compared) -> dict[str, object]:
    judged = {"accuracy": result.accuracy, "fidelity": result.fidelity}
    return {
        "first": result.names[0],
        "second": result.names[1],
        "within": result.within,
        "choice": result.choice,
        "left_out": list(result.left_out),
        **{key: None if value is None else _judged_data(value) for key, value in judged.items()},
        "latency": [latency_record(latency).model_dump(mode="json") for latency in result.latency],
        "size_bytes": list(result.size_bytes),
    }


def _judged_data(judged: Judged) -> dict[str, object]:
    return {
        "metric": judged.metric,
        "unit": judged.unit,
        "first": score_record(judged.before).model_dump(mode="json"),
        "second": score_record(judged.after).model_dump(mode="json"),
        "drop": drop_record(judged.drop).model_dump(mode="json"),
        "allowed_drop": judged.allowed,
        "confidence": judged.drop.probability_within(judged.allowed),
        "within": judged.within,
    }
