"""How far a run can be trusted: what weakens its figures, and what was in order."""

from dataclasses import dataclass

from onnxopt.document import units
from onnxopt.measure.latency import Noise, noise_of
from onnxopt.record.run import LatencyRecord, RunRecord, TrialRecord
from onnxopt.search.knee import envelope, knee_of

FEW_SAMPLES, CLIPPED = 200, 0.01
"""Below so many samples, above such a share of clipped values: said."""


@dataclass(frozen=True)
class Caveat:
    """One finding; `fine` when it is nothing to worry about."""

    text: str
    fine: bool = False


def caveats(run: RunRecord) -> tuple[Caveat, ...]:
    """Return what a reader should know before trusting the figures, the worrying first."""
    found = [*_samples(run), *_noise(run), *_hot(run), *_ranges(run), *_knee(run), *_rest(run)]
    return tuple(sorted(found, key=lambda caveat: caveat.fine))


def _knee(run: RunRecord) -> list[Caveat]:
    """Return that the winner asks more of the model than it gives away cheaply, where it does."""
    winner = run.trial(run.winner)
    curve = [point for trial in run.trials if (point := _point(trial, run)) is not None and point[0] > 1]
    points = [(1.0, 0.0), *envelope(curve)]
    place = knee_of(points)
    chosen = None if winner is None else _point(winner, run)
    if place is None or chosen is None or not chosen[0] > points[place][0]:
        return []
    what = "smaller" if run.settings.goal == "size" else "faster"
    (gain, drop), (more, cost) = points[place], chosen
    return [
        Caveat(
            f"Past the knee: {units.times(gain)} {what} costs {units.points(drop, run.unit)}, but the winner's "
            f"{units.times(more)} costs {units.points(cost, run.unit)}; from there on each gain costs more than before."
        )
    ]


def _point(trial: TrialRecord, run: RunRecord) -> tuple[float, float] | None:
    """Return how much faster or smaller a trial is and what it drops; gains are chance."""
    speedup = None if trial.latency is None or trial.latency.speedup is None else trial.latency.speedup.value
    if trial.drop is None or trial.drop.broken or trial.drop.value is None or not speedup or not trial.size_bytes:
        return None
    gain = run.model.size_bytes / trial.size_bytes if run.settings.goal == "size" else speedup
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
        found.append(Caveat(f"{holdout.samples} hold-out samples, which took no part in choosing.", fine=True))
    if holdout.source == "random":
        found.append(Caveat("Synthetic data: the samples are random numbers, on which agreement says little."))
    if run.kind == "fidelity":
        found.append(Caveat("No labels: what was measured is agreement with the original, not accuracy."))
    return found


def _noise(run: RunRecord) -> list[Caveat]:
    if run.environment.emulated:
        return [Caveat("Emulated processor: latency means nothing here.")]
    noise = host_noise(run)
    if not noise.words:
        return []
    if noise.loud:
        return [
            Caveat(f"Noisy host: {noise.words}. Speed-ups are of undisturbed time, but milliseconds are not exact.")
        ]
    return [Caveat(f"Quiet host: {noise.words}.", fine=True)]


def host_noise(run: RunRecord) -> Noise:
    """Return what disturbed the original over the run, in all loadings together."""
    timed: list[LatencyRecord | None] = [None if run.baseline is None else run.baseline.latency]
    timed += [t.baseline_latency for t in run.trials] + [p.baseline_latency for p in run.proofs]
    known = [one for one in timed if one is not None]
    return noise_of([value for one in known for value in one.epochs_ms], [one.waited for one in known])


def _hot(run: RunRecord) -> list[Caveat]:
    """Return what the winner gains with one input again and again, and why that differs."""
    proof = next((p for p in run.proofs if p.accepted), None)
    if run.settings.hot:
        return [Caveat("Times are of a hot loop, one input again and again: calls with new inputs gain less or more.")]
    if proof is None or proof.hot_speedup is None or proof.latency.speedup is None:
        return []
    called, hot = proof.latency.speedup, proof.hot_speedup
    if called.value is None or hot.value is None:
        return []
    return [
        Caveat(
            f"As called, with {units.many(proof.latency.inputs, 'input')} by turns, the winner is "
            f"{units.times(called.value)} as fast; in a hot loop of one input {units.times(hot.value)}. The "
            "difference is what reading new inputs into the caches, their sizes, and the call itself take.",
            fine=True,
        )
    ]


def _ranges(run: RunRecord) -> list[Caveat]:
    found = run.analysis
    if found is None or not found.ranges:
        return []
    worst = found.ranges[0]
    share = worst.clipped or 0.0
    text = f"{worst.tensor} has {100 * share:.2g} % of its values outside its calibrated range, the most of all"
    if share > CLIPPED:
        return [Caveat(f"Clipping: {text}. More calibration samples, or another method, would widen it.")]
    return [Caveat(f"Calibration holds: {text}.", fine=True)]


def _rest(run: RunRecord) -> list[Caveat]:
    found = []
    if run.data.calibration.samples < 32 and any("quantize-static" in t.passes for t in run.trials):
        found.append(Caveat(f"Only {units.many(run.data.calibration.samples, 'sample')} to calibrate on."))
    if run.settings.target != run.environment.detected_target:
        found.append(
            Caveat(
                f"Made for {run.settings.target}, measured on {run.environment.detected_target}: the speed there will "
                "differ."
            )
        )
    if len(run.proofs) > 1:
        found.append(
            Caveat(f"{len(run.proofs)} finalists were tried on the same hold-out part; each was asked for more.")
        )
    if run.analysis is not None:
        found += [Caveat(f"Not explained: {problem}.") for problem in run.analysis.problems]
    return found
