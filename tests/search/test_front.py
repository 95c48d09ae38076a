from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.search.front import figures_of, pareto_front, smallest_and_fastest
from onnxopt.search.trial import Candidate, Trial, Verdict


def trial(name: str, speedup: float, size: int, drop: float, verdict: Verdict = Verdict.WITHIN) -> Trial:
    timed = Latency(1, 1, 1, 1, 1, 1, Interval(speedup, speedup, speedup), None, 1, Interval(1, 1, 1))
    lost = Drop(drop, Interval(drop, drop, drop), 10, None, None, None, False, None)
    return Trial(Candidate(name, ()), verdict, "", (), size, None, lost, timed)


def test_what_is_beaten_is_left_out():
    best, small, beaten = trial("best", 3, 50, 0.0), trial("small", 2, 40, 0.0), trial("beaten", 2, 50, 0.0)
    slow = trial("slow", 0.5, 1, -1.0, Verdict.SLOWER)
    assert pareto_front([small, beaten, slow, best]) == (best, small)
    assert pareto_front([]) == ()


def test_a_candidate_that_failed_on_the_hold_out_samples_is_neither_smallest_nor_fastest_nor_on_the_front():
    proven, disproved = trial("proven", 2, 50, 0.0, Verdict.WINNER), trial("disproved", 9, 1, -1.0, Verdict.UNPROVEN)
    points = [figures_of(one) for one in (disproved, proven)]
    assert smallest_and_fastest(points) == ("proven", "proven")
    assert smallest_and_fastest(points[:1]) == (None, None)
    assert pareto_front([disproved, proven]) == (proven,)


def test_of_two_equally_fast_candidates_the_proven_one_is_the_fastest():
    proven, small = trial("proven", 2.0, 50, 0.0, Verdict.WINNER), trial("small", 2.05, 40, 0.0)
    assert smallest_and_fastest([figures_of(small), figures_of(proven)]) == ("small", "proven")
    faster = trial("faster", 2.1, 50, 0.0)
    assert smallest_and_fastest([figures_of(faster), figures_of(proven)])[1] == "faster"
    assert smallest_and_fastest([figures_of(proven), figures_of(small), figures_of(faster)])[1] == "faster"


@dataclass(frozen=True)
class Costs:
    speedup: float
    size: int
    drop: float


COSTS = st.builds(Costs, st.sampled_from([1.0, 2.0, 3.0]), st.integers(1, 4), st.sampled_from([0.0, 0.1, 0.2]))


@given(st.lists(COSTS, max_size=12))
def test_everything_is_on_the_front_or_beaten_by_it(costs):
    trials = [trial(str(i), c.speedup, c.size, c.drop) for i, c in enumerate(costs)]
    front = {t.candidate.name for t in pareto_front(trials)}
    for i, one in enumerate(costs):
        beaten = any(o != one and o.speedup >= one.speedup and o.size <= one.size and o.drop <= one.drop for o in costs)
        assert (str(i) in front) == (not beaten)
