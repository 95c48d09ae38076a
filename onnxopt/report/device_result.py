"""The result of a benchmark kit on another device: as a table, and as part of a run's report."""

from onnxopt.document import units
from onnxopt.document.blocks import Column, Table
from onnxopt.measure.device.result import DeviceResult
from onnxopt.record.run import DeviceModelRecord, DeviceRecord
from onnxopt.record.trial import LatencyRecord

PROCESSOR = "CPUExecutionProvider"
"""Provider that goes without saying."""


def device_record(result: DeviceResult) -> DeviceRecord:
    """Return a result as part of a run's record."""
    facts = result.device
    known = {
        "device": facts.get("board") or facts.get("name"),
        "processor": f"{facts.get('cpu')}, {facts.get('architecture')}",
        "instructions": " ".join(facts.get("isa", ())) or "unknown",
        "threads": facts.get("threads"),
        "governor": facts.get("governor"),
        "temperature": _temperature(result),
        "throttled runs": None if result.throttled is None else f"{100 * result.throttled:.0f} %",
        "provider": None if facts.get("provider") in (None, PROCESSOR) else facts["provider"],
        "software": f"ONNX Runtime {facts.get('onnxruntime')}, Python {facts.get('python')}",
    }
    models = tuple(
        DeviceModelRecord(
            name=model.name,
            sha256=model.sha256,
            size_bytes=model.size_bytes,
            difference=model.difference,
            same_class=model.same_class,
            classified=model.classified,
            latency=None if model.latency is None else LatencyRecord.model_validate(model.latency),
        )
        for model in result.models
    )
    named = {name: str(value) for name, value in known.items() if value is not None}
    return DeviceRecord(facts=named, models=models, refused=result.refused)


def device_table(device: DeviceRecord) -> Table:
    """Return one row per model on a device."""
    titles = ("size", "p50 ms", "p90 ms", "speed-up", "same prediction", "difference")
    return Table((Column("model"), *(Column(t, number=True) for t in titles)), tuple(map(_row, device.models)))


def _row(model: DeviceModelRecord) -> tuple[str, ...]:
    latency = model.latency
    p50, p90 = (
        ("-", "-") if latency is None or latency.unsure else map(units.significant, (latency.p50_ms, latency.p90_ms))
    )
    speedup = None if latency is None else latency.speedup
    faster = "unsure" if latency is not None and latency.unsure else "-"
    if speedup is not None and speedup.value is not None:
        faster = f"{units.times(speedup.value)}\n[{speedup.low:.2f}, {speedup.high:.2f}]"
    same = f"{model.same_class}/{model.classified}" if model.classified else "-"
    difference = "other shapes" if model.difference is None else f"{model.difference:.2g}"
    return (model.name, units.size(model.size_bytes), p50, p90, faster, same, difference)


def _temperature(result: DeviceResult) -> str | None:
    before, after = (max(result.celsius.get(when, ()), default=None) for when in ("before", "after"))
    return None if before is None or after is None else f"{before:.0f} to {after:.0f} °C"
