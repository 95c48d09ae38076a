"""Caveats of a run: weaknesses of its figures, and checks that were in order."""

from dataclasses import dataclass

from onnxopt.document import units
from onnxopt.measure.latency import Noise, noise_of
from onnxopt.options.search import Goal
from onnxopt.record.run import RunRecord
from onnxopt.record.trial import LatencyRecord, TrialRecord
from onnxopt.search.front import COMPARED, envelope, knee_of

FEW_SAMPLES, CLIPPED = 200, 0.01
"""Number of samples below which, and share of clipped values above which, a caveat is given."""


@dataclass(frozen=True)
class Caveat:
    """One finding; `fine` for a check that was in order."""

    text: str
    fine: bool = False


def caveats(run: RunRecord) -> tuple[Caveat, ...]:
    """Return the caveats of a run, weaknesses first."""
    found = [*_samples(run), *_noise(run), *_hot(run), *_ranges(run), *_knee(run), *_rest(run)]
    return tuple(sorted(found, key=lambda caveat: caveat.fine))


def _knee(run: RunRecord) -> list[Caveat]:
    """Return a caveat where the winner lies beyond the knee of the trade-off curve."""
    winner = run.trial(run.winner)
    compared = [trial for trial in run.trials if trial.verdict in [verdict.value for verdict in COMPARED]]
    curve = [point for trial in compared if (point := _point(trial, run)) is not None and point[0] > 1]
    points = [(1.0, 0.0), *envelope(curve)]
    place = knee_of(points)
    chosen = None if winner is None else _point(winner, run)
    if place is None or chosen is None or not chosen[0] > points[place][0]:
        return []
    what = "smaller" if run.settings.goal is Goal.SIZE else "faster"
    unit = " points" if run.unit == "share" else ""
    (gain, drop), (more, cost) = points[place], chosen
    return [
        Caveat(
            f"Diminishing returns: {units.times(gain)} {what} drops {units.points(drop, run.unit)}{unit}, the winner's "
            f"{units.times(more)} drops {units.points(cost, run.unit)}{unit}."
        )
    ]


def _point(trial: TrialRecord, run: RunRecord) -> tuple[float, float] | None:
    """Return the speed-up or size ratio of a trial, and its drop; a negative drop counts as 0."""
    speedup = None if trial.latency is None or trial.latency.speedup is None else trial.latency.speedup.value
    if trial.drop is None or trial.drop.broken or trial.drop.value is None or not speedup or not trial.size_bytes:
        return None
    gain = run.model.size_bytes / trial.size_bytes if run.settings.goal is Goal.SIZE else speedup
    return gain, max(trial.drop.value, 0.0)


def _samples(run: RunRecord) -> list[Caveat]:
    found = []
    holdout = run.data.holdout
    if holdout.samples < FEW_SAMPLES:
        found.append(
            Caveat(
                f"Few samples: {units.many(holdout.samples, 'hold-out sample')} cannot show a small drop with "
                f"certainty; one sample is {100 / max(holdout.samples, 1):.2g} points."
            )
        )
    else:
        found.append(Caveat(f"{holdout.samples} hold-out samples, used for the proof alone.", fine=True))
    if holdout.source.partition(":")[0] == "random":
        found.append(Caveat("Synthetic data: agreement on random inputs says little about real data."))
    if run.kind == "fidelity":
        found.append(Caveat("No labels: the score is agreement with the baseline, not accuracy."))
    return found


def _noise(run: RunRecord) -> list[Caveat]:
    if run.environment.emulated:
        return [Caveat("Emulated processor: latency has no meaning.")]
    noise = host_noise(run)
    if not noise.words:
        return []
    if noise.loud:
        return [Caveat(f"Noisy host: {noise.words}. Speed-ups come from undisturbed runs; milliseconds are inexact.")]
    return [Caveat(f"Quiet host: {noise.words}.", fine=True)]


def host_noise(run: RunRecord) -> Noise:
    """Return the noise in the baseline's latency over the whole run."""
    timed: list[LatencyRecord | None] = [None if run.baseline is None else run.baseline.latency]
    timed += [t.baseline_latency for t in run.trials] + [p.baseline_latency for p in run.proofs]
    known = [one for one in timed if one is not None]
    return noise_of([value for one in known for value in one.epochs_ms], [one.waited for one in known])


def _hot(run: RunRecord) -> list[Caveat]:
    """Return the winner's speed-up with one repeated input, beside that with changing inputs."""
    proof = next((p for p in run.proofs if p.accepted), None)
    if run.settings.hot:
        return [Caveat("Hot loop: latency of one repeated input; the speed-up with changing inputs differs.")]
    if proof is None or proof.hot_speedup is None or proof.latency.speedup is None:
        return []
    called, hot = proof.latency.speedup, proof.hot_speedup
    if called.value is None or hot.value is None:
        return []
    return [
        Caveat(
            f"Speed-up {units.times(called.value)} with {units.many(proof.latency.inputs, 'alternating input')}, "
            f"{units.times(hot.value)} with one repeated input. The difference comes from caches, input sizes and the "
            "overhead of a call.",
            fine=True,
        )
    ]


def _ranges(run: RunRecord) -> list[Caveat]:
    found = run.analysis
    if found is None or not found.ranges:
        return []
    worst = found.ranges[0]
    share = worst.clipped or 0.0
    text = f"at most {100 * share:.2g} % of the values of an activation are outside its range ({worst.tensor})"
    if share > CLIPPED:
        return [Caveat(f"Clipping: {text}. More calibration samples or another method widen the range.")]
    return [Caveat(f"Calibrated ranges fit: {text}.", fine=True)]


def _rest(run: RunRecord) -> list[Caveat]:
    found = []
    if run.data.calibration.samples < 32 and any("quantize-static" in t.passes for t in run.trials):
        found.append(Caveat(f"Only {units.many(run.data.calibration.samples, 'calibration sample')}."))
    if run.settings.target != run.environment.detected_target:
        found.append(
            Caveat(
                f"Target {run.settings.target}, measured on {run.environment.detected_target}: the speed-up on the "
                "target differs."
            )
        )
    if len(run.proofs) > 1:
        found.append(
            Caveat(
                f"{len(run.proofs)} finalists were tried on the same hold-out samples, with a higher required "
                "probability each."
            )
        )
    if run.analysis is not None:
        found += [Caveat(f"Missing in the report: {problem}.") for problem in run.analysis.problems]
    return found
