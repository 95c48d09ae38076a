"""Number format and length of the distillations of a search."""

import math
from collections.abc import Mapping

from onnxopt.errors import ModelError, NativeError, UsageError
from onnxopt.measure.runtime.environment import instruction_sets
from onnxopt.options.training import Precision
from onnxopt.search.candidates import MOST_STEPS, RECOVERY
from onnxopt.search.journal.notes import named_numbers
from onnxopt.search.trials import Trials

_TRAINING_SHARE = 0.5
"""Share of the time left for candidates that one distillation may take."""

_MOST_IN_LIMIT = 10 * MOST_STEPS
"""Largest number of steps where a time limit bounds them too: longer trainings recover more, to the last step."""

_STEP_PER_RUN = 4.0
"""Predicted time of a training step, by that of the baseline's runs on as many samples."""

_MEASURED_SHARE = 0.03
"""Share of the time left for candidates that the measurement of steps may take."""

_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Instruction sets with products of bfloat16; without them torch converts, and is slower."""

_WORTH = 0.9
"""Time of a step in bfloat16, relative to float32, up to which its rounding is worth it."""


def step_times(trials: Trials) -> dict[str, float]:
    """Return seconds per training step of the baseline by number format; empty where they are not measured.

    They are recorded: another machine, or another load, would give a resumed search other candidates.
    """
    return trials.recall("training steps", lambda: _measured(trials), named_numbers)


def precision_of(times: Mapping[str, float]) -> Precision:
    """Return the number format of a distillation; weights and their sums are float32 in each."""
    if "bfloat16" in times and times["bfloat16"] <= _WORTH * times["float32"]:
        return "bfloat16"
    return "auto"


def affordable_steps(trials: Trials, times: Mapping[str, float]) -> int:
    """Return the steps of a distillation that take at most their share of the time left for candidates."""
    left_s = trials.deadline.candidates_left_s()
    chosen = "bfloat16" if precision_of(times) == "bfloat16" else "float32"
    step_s = times.get(chosen, _predicted_s(trials))
    if math.isinf(left_s) or step_s <= 0:
        return MOST_STEPS
    return min(int(_TRAINING_SHARE * left_s / step_s), _MOST_IN_LIMIT)


def _measured(trials: Trials) -> dict[str, float]:
    precisions = ("float32", "bfloat16") if _BFLOAT16 & {*instruction_sets()} else ("float32",)
    if trials.settings.cluster is not None:
        return {}  # other machines train
    try:
        from onnxopt.training.step_seconds import STEPS, step_seconds

        steps_s = len(precisions) * STEPS * _predicted_s(trials)
        if steps_s > _MEASURED_SHARE * trials.deadline.candidates_left_s():
            return {}
        return step_seconds(
            trials.model, trials.parts.calibration, RECOVERY.batch_size, precisions, augmentations=RECOVERY.augment
        )
    except (ModelError, NativeError, UsageError):
        return {}  # the trial of the candidate says why nothing can learn


def _predicted_s(trials: Trials) -> float:
    return _STEP_PER_RUN * RECOVERY.batch_size * trials.sample_s
