"""A winner beyond the knee of the trade-off has a caveat."""

from onnxopt.record.run import RunRecord
from onnxopt.record.trial import IntervalRecord
from onnxopt.report.caveats import caveats


def with_curve(run: RunRecord, curve: list[tuple[float, float]]) -> RunRecord:
    """Return a run whose trials are as much faster and drop as much as given; the last wins."""
    trial = next(t for t in run.trials if t.latency is not None and t.drop is not None)
    trials = []
    for number, (speedup, drop) in enumerate(curve):
        gain = IntervalRecord(low=speedup, value=speedup, high=speedup, level=0.95)
        latency = trial.latency.model_copy(update={"speedup": gain})
        lost = trial.drop.model_copy(update={"value": drop})
        figures = {"verdict": "within budget", "latency": latency, "drop": lost}
        trials.append(trial.model_copy(update={"name": f"t{number}", **figures}))
    return run.model_copy(update={"trials": tuple(trials), "winner": trials[-1].name})


def past_the_knee(run: RunRecord) -> list[str]:
    return [caveat.text for caveat in caveats(run) if "Diminishing returns" in caveat.text]


def test_the_last_gain_that_cost_most_is_reported(explained_record):
    (text,) = past_the_knee(with_curve(explained_record, [(2.0, -0.001), (3.0, 0.001), (3.3, 0.009)]))
    assert "3.00x faster drops 0.10 points" in text
    assert "3.30x drops 0.90 points" in text


def test_an_even_price_is_not(explained_record):
    assert not past_the_knee(with_curve(explained_record, [(2.0, 0.003), (3.0, 0.006), (4.0, 0.009)]))
    assert not past_the_knee(with_curve(explained_record, [(2.0, 0.0), (3.0, 0.0), (4.0, 0.0)]))


def test_a_disproved_candidate_makes_no_knee(explained_record):
    run = with_curve(explained_record, [(2.0, -0.001), (3.0, 0.001), (3.3, 0.009)])
    refuted = run.trials[1].model_copy(update={"verdict": "not proven on the hold-out part"})
    assert not past_the_knee(run.model_copy(update={"trials": (run.trials[0], refuted, run.trials[2])}))


def test_random_data_of_any_number_has_a_caveat(explained_record):
    for source, warns in (("random", True), ("random:40", True), ("randomly.npz", False)):
        part = explained_record.data.holdout.model_copy(update={"source": source})
        data = explained_record.data.model_copy(update={"holdout": part})
        said = [caveat.text for caveat in caveats(explained_record.model_copy(update={"data": data}))]
        assert any("Synthetic data" in text for text in said) == warns
