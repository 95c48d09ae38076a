"""The verdict on one measured candidate."""

from dataclasses import replace

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.judge import Judge
from onnxopt.measure.statistics import Drop
from onnxopt.pipeline import Effect
from onnxopt.search.acceptance import Acceptance
from onnxopt.search.trial import Candidate, Trial, Verdict


def judged(trial: Trial, judge: Judge, bar: Acceptance) -> Trial:
    """Return a measured trial with its drop and its verdict."""
    assert trial.score is not None
    assert trial.latency is not None
    assert trial.size_bytes is not None
    drop = drop_of(trial.candidate, judge, trial.score)
    verdict, reason = bar.verdict(drop, trial.latency.speedup, trial.size_bytes, trial.latency.unsure)
    return replace(trial, verdict=verdict, reason=reason, drop=drop)


def drop_of(candidate: Candidate, judge: Judge, score: Evaluation) -> Drop:
    """Return the drop of a candidate; exact passes lose nothing on other samples either, unless they did on these."""
    drop = judge.drop(score)
    return drop.of_equal_outputs() if all(p.effect is Effect.EXACT for p in candidate.passes) else drop


def given_up(trial: Trial, judge: Judge, bar: Acceptance) -> Trial:
    """Return a trial whose scoring was stopped, with its drop on the first samples."""
    assert trial.score is not None
    drop, all_ = judge.drop(trial.score), judge.baseline().n
    lost = f"{bar.changed(drop)} on the first {drop.n} of {all_} samples"
    reason = f"{lost}, {bar.said(bar.allowed_drop)} allowed: given up"
    return replace(trial, verdict=Verdict.OVER_BUDGET, reason=reason, drop=drop)


def digest_of(model: ir.Model) -> str:
    """Return the checksum of a model, by which equal candidates are found; "" for a model too large."""
    return model_file.digest(model) if model_file.fits_protobuf(model) else ""
