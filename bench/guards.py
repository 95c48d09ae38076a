"""The functions whose mutants `mutants.py` tries: those that decide whether a result counts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """Functions of one file that decide, and the tests of their room.

    Attributes:
        file: path below `onnxopt/`.
        names: functions, or methods as `Class.method`.
        tests: words for pytest, paths below `tests/`.
    """

    file: str
    names: tuple[str, ...]
    tests: tuple[str, ...]


GUARDS = (
    Guard(
        "search/acceptance.py",
        tuple(
            f"Acceptance.{n}"
            for n in ("verdict", "_doubt", "accurate", "promising", "gain", "asked", "standing", "finalists")
        ),
        ("search/test_acceptance.py", "search/test_unsure.py"),
    ),
    Guard("search/race.py", ("Race.__init__", "Race.__call__", "Race.least_drop", "race_of"), ("search/test_race.py",)),
    Guard("search/screen.py", ("Screen.refusal",), ("search/test_screen.py",)),
    Guard(
        "search/front.py",
        ("smallest_and_fastest", "_beats", "_costs", "knee_of"),
        ("search/test_front.py", "search/test_knee.py"),
    ),
    Guard("search/stages.py", ("left_for_later", "_far_beyond", "_longer_than"), ("search/test_left_for_later.py",)),
    Guard(
        "search/proof/holdout.py",
        ("Evidence.proof", "timed_as_last", "_timed", "held_out", "affordable_samples", "_plenty", "drawn_samples"),
        (
            "search/proof/test_early_proof.py",
            "search/test_time_limit.py",
            "search/test_unsure.py",
            "search/proof/test_holdout.py",
        ),
    ),
    Guard(
        "search/proof/chain.py",
        ("chance_by_trial", "chance_of_proof", "best_chain", "_expected"),
        ("search/proof/test_chain.py",),
    ),
    Guard(
        "search/proof/proving.py",
        (
            "prove_first",
            "prove_finalists",
            "_tried",
            "_plan",
            "_others",
            "_measured",
            "_another_fits",
            "_that_fit",
            "_hot",
            "decided",
        ),
        (
            "search/proof/test_early_proof.py",
            "search/test_time_limit.py",
            "search/test_unsure.py",
            "search/proof/test_proving.py",
        ),
    ),
    Guard(
        "training/course.py",
        tuple(f"Course.{n}" for n in ("leads_away", "lower", "learn")),
        ("training/test_course.py",),
    ),
    Guard(
        "search/limits/deadline.py",
        tuple(f"Deadline.{n}" for n in ("left_s", "over", "ended", "reserve_for", "searching", "ending", "in_time")),
        ("search/limits/test_deadline.py",),
    ),
    Guard(
        "search/limits/reserve.py",
        (
            *(
                f"Reserve.{n}"
                for n in ("needed_s", "least_s", "kept_s", "samples", "another_fits", "another_s", "that_fit")
            ),
            "reserve_of",
        ),
        ("search/limits/test_reserve.py",),
    ),
    Guard("search/limits/pressure.py", ("refuse_hopeless", "baseline_in_time"), ("search/limits/test_pressure.py",)),
    Guard(
        "search/limits/stop_target.py", ("StopTarget.reached", "StopTarget.reached_by"), ("search/test_stop_target.py",)
    ),
    Guard(
        "measure/statistics.py",
        (
            *("Interval.excludes", "interval_of_draws", "_bca_corrections", "ratio_interval"),
            *("flip_draws", "share_draws", "probability_within"),
            *(f"Drop.{n}" for n in ("evened_out", "within", "probability_within", "samples_needed")),
        ),
        ("measure/test_statistics.py",),
    ),
    Guard("measure/latency/tails.py", ("upper_bound",), ("measure/latency/test_clock_parts.py",)),
    Guard(
        "measure/latency/estimate.py",
        ("undisturbed", "restless", "waiting_share", "middle_mean"),
        ("measure/latency/test_clock_parts.py",),
    ),
    Guard("measure/latency/summary.py", ("_busy", "too_wide"), ("measure/latency/test_clock_parts.py",)),
    Guard("measure/equivalence.py", ("largest_difference", "difference"), ("measure/test_equivalence.py",)),
    Guard("measure/output_error.py", ("OutputError.of", "relative_power"), ("measure/test_output_error.py",)),
    Guard("measure/verdict.py", ("prove", "time_shares"), ("measure/test_verdict.py",)),
    Guard("repairs/mending.py", ("mend", "_judged", "_unlike", "_worth", "_unmeasured"), ("repairs/test_mending.py",)),
    Guard("repairs/witness.py", ("change", "_change"), ("repairs/test_witness.py",)),
    Guard("quantization/held_out.py", ("fitted_and_held_out",), ("quantization/test_held_out.py",)),
    Guard("pruning/compensate.py", ("compensate", "refit"), ("pruning/test_compensate.py",)),
    Guard("reconstruction/fit.py", ("Fit.helped",), ("reconstruction/test_fit.py",)),
    Guard("reconstruction/low_rank/fit.py", ("refitted",), ("reconstruction/test_refit.py",)),
    Guard("quantization/rounding/blockwise.py", ("shrunk",), ("quantization/rounding/test_blockwise.py",)),
    Guard("quantization/rounding/saturation.py", ("reduced",), ("quantization/rounding/test_saturation.py",)),
    Guard(
        "quantization/attempt.py",
        tuple(f"_Search.{n}" for n in ("result", "_named", "_bisected", "_leave")),
        ("quantization/test_attempt.py",),
    ),
    Guard(
        "quantization/calibration/data_quality.py",
        ("require_variety", "range_weaknesses"),
        ("quantization/calibration/test_data_quality.py",),
    ),
    Guard(
        "quantization/calibration/spread.py",
        ("bulk_bound", "quiet_interval"),
        ("quantization/calibration/test_spread.py",),
    ),
    Guard("measure/chance.py", ("Chance.skill", "explained", "_errors"), ("measure/test_chance.py",)),
    Guard("measure/usable.py", ("without_nan",), ("measure/test_judge.py",)),
    Guard("measure/repeatable.py", ("seeded", "needs_fresh", "_same", "_equal"), ("measure/test_repeatable.py",)),
    Guard("pruning/latency_goal.py", ("plan_for_latency",), ("pruning/test_latency_goal.py",)),
)
