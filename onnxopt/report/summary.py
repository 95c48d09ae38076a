"""The terminal summary of a run: tables and sentences."""

from dataclasses import dataclass
from pathlib import Path

from onnxopt.document import units
from onnxopt.document.blocks import Document, Text
from onnxopt.record.recording import left_out_sentence
from onnxopt.record.run import RunRecord
from onnxopt.record.trial import ProofRecord
from onnxopt.report.findings import sentences
from onnxopt.report.tables import number, speed, speedup_bounds, trials_table


def summary(run: RunRecord, folder: Path) -> Document:
    """Return the result of `run`, whose files are in `folder`."""
    first, blocks = judged_lines(run), (trials_table(run), Text(tuple(sentences(run, folder))))
    return Document((Text(first), *blocks) if first else blocks, run.model_dump(mode="json"))


def judged_lines(run: RunRecord) -> tuple[str, ...]:
    """Return the rule for judging results, the samples that were left out, and the warning; () in older records."""
    return tuple(filter(None, (run.judged, left_out_sentence(run.left_out), run.warning)))


def headline(run: RunRecord) -> str:
    """Return the verdict in one line."""
    name = Path(run.model.path).name or "a model in memory"
    accepted = next((p for p in run.proofs if p.accepted), None)
    winner = run.trial(run.winner)
    if run.status == "won" and accepted is not None and winner is not None and accepted.latency.speedup is not None:
        faster = speed(accepted.latency.speedup).partition(" [")[0]
        sure = standing_words(run, accepted)
        return f"{name}: {faster}, {units.smaller(run.model.size_bytes / (winner.size_bytes or 1))}{sure}"
    return f"{name}: {'no better model, baseline kept' if run.status == 'kept-original' else 'not finished'}"


def standing_words(run: RunRecord, proof: ProofRecord) -> str:
    """Return the remark of a title on a winner that is not proven; "" for a proven one."""
    return f" (likely, {units.percent(proof.confidence)}: not proven)" if run.standing == "likely" else ""


@dataclass(frozen=True)
class Tile:
    """One figure of the verdict, with a remark."""

    title: str
    value: str
    beside: str
    good: bool = False


def tiles(run: RunRecord) -> tuple[Tile, ...]:
    """Return the figures of the winner's proof; () without a winner."""
    proof, winner = next((p for p in run.proofs if p.accepted), None), run.trial(run.winner)
    if run.status != "won" or proof is None or winner is None or proof.latency.speedup is None:
        return ()
    speedup, size = proof.latency.speedup, winner.size_bytes or 1
    p50s = (units.significant(one.p50_ms) for one in (proof.baseline_latency, proof.latency))
    low, high = (units.points(number(v), run.unit) for v in (proof.drop.interval.low, proof.drop.interval.high))
    points = " points" if run.unit == "share" else ""
    judged = run.metric if run.kind == "accuracy" else "fidelity"
    return (
        Tile(
            "speed-up",
            units.times(number(speedup.value)),
            f"{speedup_bounds(speedup)}, {' to '.join(p50s)} ms",
            good=(speedup.low or 0) > 1,
        ),
        Tile(
            "size",
            f"{units.times(run.model.size_bytes / size)}",
            f"{units.size(run.model.size_bytes)} to {units.size(size)}",
            good=size < run.model.size_bytes,
        ),
        Tile(
            f"drop of {judged}{',' + points if points else ''}",
            units.points(number(proof.drop.value), run.unit),
            f"[{low}, {high}], budget {units.points(number(run.allowed_drop), run.unit)}",
            good=proof.drop.value is not None and proof.drop.value <= 0,
        ),
        Tile(
            "probability of being within budget",
            units.percent(proof.confidence),
            f"{run.standing or 'proven'}{_needed(proof)}",
            good=run.standing == "proven",
        ),
    )


def _needed(proof: ProofRecord) -> str:
    """Return the required probability as a remark; "" where no probability is enough."""
    return "" if proof.asked >= 1 else f"; a proof needs {units.percent(proof.asked, limit=True)}"
