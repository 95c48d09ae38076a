"""Finalists are tried on the hold-out samples in a chain, by their gains and their chances."""

from dataclasses import replace

import numpy as np
import pytest

from onnxopt.measure.statistics import Drop, Interval
from onnxopt.search.proof.chain import (
    ATTEMPT,
    CONSIDERED,
    WORTH,
    _expected,
    best_chain,
    chance_by_trial,
    chance_of_proof,
)
from onnxopt.search.trial import Trial
from tests.search.test_acceptance import BAR, names, trial

SHARES = {"bold": 0.3, "middle": 0.6, "sure": 0.95, "careful": 0.99, "slow": 1.0}
FINALISTS = [trial("bold", 0, 4.0), trial("middle", 0, 3.0), trial("sure", 0, 2.5), trial("slow", 0, 1.1)]


def chance(trial: Trial, share: float) -> tuple[float, float]:
    return SHARES[trial.candidate.name], SHARES[trial.candidate.name]


def test_a_chain_climbs_from_a_sure_finalist_to_bold_ones() -> None:
    """The slow one is certain, but what it adds is less than the time of its proof."""
    assert names(best_chain(BAR, FINALISTS, chance=chance)) == ["sure", "middle", "bold"]
    assert names(best_chain(BAR, FINALISTS, chance=chance, most=2)) == ["sure", "middle"]


def test_a_finalist_before_a_chain_is_worth_its_risk_where_the_next_are_unsure() -> None:
    unsure = [trial("bold", 0, 4.0), trial("careful", 0, 2.0)]
    assert names(best_chain(BAR, unsure, chance=chance)) == ["careful", "bold"]
    risky = [trial("careful", 0, 4.0), trial("bold", 0, 2.0)]
    assert names(best_chain(BAR, risky, chance=chance)) == ["careful"], "a failure would end the chain"


def test_with_one_attempt_a_sure_finalist_is_better_than_a_bold_one() -> None:
    assert names(best_chain(BAR, FINALISTS, chance=chance, most=1)) == ["sure"]
    nearly = [trial("middle", 0, 30.0), *FINALISTS[2:]]
    assert names(best_chain(BAR, nearly, chance=chance, most=1)) == ["middle"]


def test_behind_an_early_proof_only_better_ones_are_tried() -> None:
    """With 2.6x at the end a bold one costs nothing but time."""
    floor = BAR.gain(trial("early", 0, 2.6))
    assert names(best_chain(BAR, FINALISTS, chance=chance, floor=floor)) == ["middle", "bold"]
    assert best_chain(BAR, FINALISTS, chance=chance, floor=BAR.gain(trial("early", 0, 5.0))) == []
    assert best_chain(BAR, FINALISTS[2:], chance=chance, floor=BAR.gain(trial("early", 0, 2.5 / 1.02))) == []
    assert names(best_chain(BAR, FINALISTS[2:], chance=chance, floor=BAR.gain(trial("early", 0, 2.4)))) == ["sure"]


def test_of_finalists_that_gain_the_same_one_is_tried() -> None:
    """Calibrations lead to the same kernels: the second would gain nothing, and may end the chain."""
    alike = [trial("careful", 0, 2.55), trial("sure", 0, 2.5), trial("middle", 0, 2.45)]
    assert names(best_chain(BAR, alike, chance=chance)) == ["careful"]


def test_a_gain_too_small_for_the_time_of_a_proof_is_not_tried() -> None:
    floor = BAR.gain(trial("early", 0, 2.0))

    def rarely(trial: Trial, share: float) -> tuple[float, float]:
        return 1.01 * ATTEMPT / (BAR.gain(trial) - floor) if trial.candidate.name == "bold" else 0.0, 0.0

    assert names(best_chain(BAR, FINALISTS, chance=rarely, floor=floor)) == ["bold"]
    assert best_chain(BAR, FINALISTS, chance=lambda t, share: (0.9 * rarely(t, share)[0], 0.0), floor=floor) == []


def test_without_any_chance_the_best_is_tried_for_the_reason() -> None:
    assert names(best_chain(BAR, FINALISTS, chance=lambda trial, share: (0.0, 0.0))) == ["bold"]
    assert best_chain(BAR, [], chance=chance) == []


def test_of_many_finalists_only_the_best_are_considered() -> None:
    many = [trial(str(number), 0, 3.0 - number / 100) for number in range(CONSIDERED)]
    found = best_chain(
        BAR, [*many, trial("sure", 0, 2.7)], chance=lambda t, share: (float(t.candidate.name == "sure"),) * 2
    )
    assert "sure" not in names(found)


def test_the_share_of_the_risk_decides_the_chances() -> None:
    seen = set()

    def given(trial: Trial, share: float) -> tuple[float, float]:
        seen.add(share)
        return 0.5, 0.5

    best_chain(BAR, FINALISTS, chance=given, share=0.75)
    assert seen == {0.75}


def drop(value: float, spread: float, n: int = 400) -> Drop:
    draws = value + spread * np.array([-1.0, 1.0])
    return Drop(value, Interval(value, value, value), n, None, None, None, False, draws)


def test_the_chance_is_that_of_measuring_a_drop_with_enough_room() -> None:
    """1 % is allowed: with an error of 0.25 points on as many samples, the others differ by 0.35 points."""
    room = 0.01 - 1.959964 * 0.0025
    assert chance_of_proof(drop(room, 0.0025), 0.01, 0.975, 400) == pytest.approx(0.5)
    one_error = drop(room - 0.0025 * 2**0.5, 0.0025)
    assert chance_of_proof(one_error, 0.01, 0.975, 400) == pytest.approx(0.8413, abs=1e-4)
    assert chance_of_proof(one_error, 0.01, 0.975, 4000) > 0.95
    assert chance_of_proof(one_error, 0.01, 0.9, 400) > 0.9


def test_where_no_loss_was_seen_the_true_drop_is_above_the_measured_one() -> None:
    seen = replace(drop(0.004, 0.002), value=0.0)
    assert chance_of_proof(seen, 0.01, 0.975, 400) == chance_of_proof(drop(0.004, 0.002), 0.01, 0.975, 400)


def test_a_drop_without_spread_is_proven_or_not() -> None:
    assert chance_of_proof(drop(0.01, 0.0), 0.01, 0.975, 400) == 1
    assert chance_of_proof(drop(0.0101, 0.0), 0.01, 0.975, 400) == 0


def test_too_few_samples_and_broken_outputs_prove_nothing() -> None:
    """By the rule of succession 38 samples without a loss prove 97.5 %."""
    assert chance_of_proof(drop(0.0, 0.0), 0.01, 0.975, 37) == 0
    assert chance_of_proof(drop(0.0, 0.0), 0.01, 0.975, 38) == 1
    assert chance_of_proof(replace(drop(0.0, 0.0), broken=True), 0.01, 0.975, 400) == 0
    assert chance_of_proof(replace(drop(0.0, 0.0), telling=40), 0.01, 0.975, 370) == 0


def test_a_likely_result_is_known_unless_a_proof_is_required() -> None:
    known = replace(trial("a", 0, 2.0), drop=drop(0.005, 0.003))
    proven = chance_of_proof(known.drop, BAR.allowed_drop, BAR.asked(0.75), 400)  # type: ignore[arg-type]
    likely = chance_of_proof(known.drop, BAR.allowed_drop, 0.7, 400)  # type: ignore[arg-type]
    assert 0 < proven < likely
    assert chance_by_trial(BAR, 400)(known, 0.75) == (proven, likely)
    assert chance_by_trial(replace(BAR, require="proven"), 400)(known, 0.75) == (proven, proven)
    assert chance_by_trial(BAR, 400)(replace(known, drop=None), 1.0) == (0, 0)


def test_a_likely_result_counts_half_and_nothing_behind_an_early_proof() -> None:
    """The bold one is never proven and always likely; it ships as likely where nothing is proven."""
    bold, sure = trial("bold", 0, 1.3), trial("sure", 0, 1.2)

    def chances(trial: Trial, share: float) -> tuple[float, float]:
        return (0.0, 1.0) if trial.candidate.name == "bold" else (0.9, 0.9)

    assert names(best_chain(BAR, [bold, sure], chance=chances, most=1)) == ["sure"]
    bolder = trial("bold", 0, 4.0)
    assert names(best_chain(BAR, [bolder, sure], chance=chances, most=1)) == ["bold"]
    floor = BAR.gain(trial("early", 0, 1.1))
    assert names(best_chain(BAR, [bolder, sure], chance=chances, most=1, floor=floor)) == ["sure"]


def test_the_expected_gain_is_of_the_last_proven_one_or_half_of_the_best_likely_one() -> None:
    gains, chances, likelier = np.array([[0.5, 0.75]]), np.array([[0.6, 0.5]]), np.array([[0.7, 0.8]])
    proven = 0.6 * 0.5 * 0.5 + 0.6 * 0.5 * 0.75
    likely = 0.8 * 0.75 + 0.2 * 0.25 * 0.5
    assert _expected(gains, chances, likelier, 0.0) == pytest.approx([proven + 0.4 * WORTH * likely])
    assert _expected(gains, chances, likelier, 0.3) == pytest.approx([proven + 0.4 * 0.3])
    certain = np.ones((1, 1))
    assert _expected(np.array([[0.5]]), certain, certain, 0.0) == [0.5]


def test_without_plausible_values_the_drop_itself_decides() -> None:
    unknown = replace(drop(0.01, 0.0), draws=np.empty(0))
    assert chance_of_proof(unknown, 0.01, 0.975, 400) == 1
    assert chance_of_proof(unknown, 0.0099, 0.975, 400) == 0
