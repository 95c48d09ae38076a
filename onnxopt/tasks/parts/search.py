"""One budget for a folder: each part in each form, the best combinations, and their proof on other samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnxopt import model_file
from onnxopt.catalog import format_passes, parse
from onnxopt.measure.accuracy import drop
from onnxopt.measure.generation.chain import Chain
from onnxopt.measure.generation.speed import GenerationSpeed
from onnxopt.measure.statistics import Drop
from onnxopt.search.acceptance import Acceptance
from onnxopt.search.trial import Verdict
from onnxopt.tasks.parts.bits import mixed_forms
from onnxopt.tasks.parts.choice import MeasuredForm, choices
from onnxopt.tasks.parts.forms import FORMS, PartForm, make_form
from onnxopt.tasks.parts.job import PartsJob
from onnxopt.tasks.parts.texts import score_chain

BASELINE = "baseline"

RISKS = (0.5, 0.25, 0.25)
"""Shares of the accepted risk of the combinations that are tried on the hold-out samples, up to the first success."""


@dataclass(frozen=True)
class TriedWhole:
    """A combination that was measured as a whole on the hold-out samples.

    Attributes:
        forms: the form of each part that changed.
        drop: drop of the probability kept per token.
        probability: probability that the true drop is within the budget.
        required: the probability that this attempt needs.
        standing: `proven`, `likely`, or empty.
        reason: the reason why it does not win; empty for the winner.
        speed: time to the first token, and tokens per second.
        size_bytes: the size of all models.
    """

    forms: tuple[PartForm, ...]
    drop: Drop
    probability: float
    required: float
    standing: str
    reason: str
    speed: GenerationSpeed
    size_bytes: int


@dataclass(frozen=True)
class PartsFound:
    """What a search for a folder found.

    Attributes:
        alone: each form of each part, measured alone.
        left: forms that were not made, with the reason.
        tried: combinations on the hold-out samples, in order.
        speed: of the baseline, and of each form alone.
    """

    alone: tuple[MeasuredForm, ...]
    left: dict[str, str]
    tried: tuple[TriedWhole, ...]
    speed: dict[str, GenerationSpeed]

    @property
    def winner(self) -> TriedWhole | None:
        """The combination that won; None without one."""
        return next((one for one in self.tried if not one.reason), None)


def search_parts(job: PartsJob, report: Callable[[str, int, int], None]) -> PartsFound:
    """Measure each part in each form, and in mixes of them, and prove the best combination."""
    drops, left = list[tuple[PartForm, float]](), dict[str, str]()
    whole = job.parts.chain
    before = score_chain(whole, whole, job.search, job.length, job.runtime)

    def drop_of(form: PartForm) -> float:
        after = score_chain(whole, job.parts.with_files(form.used), job.search, job.length, job.runtime)
        return drop(before, after, seed=job.options.seed).value

    for part, files in job.parts.files.items():
        for name, passes in FORMS.items():
            report("forms", len(drops) + len(left), len(FORMS) * len(job.parts.files))
            made = make_form(part, files, name, passes, place=job.place, context=job.context)
            if isinstance(made, PartForm):
                drops.append((made, drop_of(made)))
            else:
                left[f"{part} in {name}"] = made
        uniform = {format_passes(parse(form.passes)): lost for form, lost in drops if form.part == part}
        drops += mixed_forms(job, part, uniform, drop_of)
    chains = {BASELINE: whole}
    chains |= {f"{one.part}, {one.name}": job.parts.with_files(one.used) for one, _ in drops}
    report("times", 0, len(chains))
    speed = job.timing.measure(chains, job.options.latency_s * len(chains))
    alone = tuple(
        MeasuredForm(
            form,
            lost,
            job.timing.ms(speed[BASELINE]) - job.timing.ms(speed[name]),
            model_file.size_together(job.parts.files[form.part]) - form.size_bytes,
        )
        for (form, lost), name in zip(drops, list(chains)[1:], strict=True)
    )
    return PartsFound(alone, left, tuple(_proofs(job, alone, report)), speed)


def _proofs(job: PartsJob, alone: Sequence[MeasuredForm], report: Callable[[str, int, int], None]) -> list[TriedWhole]:
    tried = list[TriedWhole]()
    limits = _acceptance(job)
    for chosen in choices(alone, limits.goal, job.allowed):
        if len(tried) == len(RISKS):
            break
        report("proofs", len(tried), len(RISKS))
        tried.append(_proof(job, limits, chosen, RISKS[len(tried)]))
        if not tried[-1].reason:
            break
    return tried


def _acceptance(job: PartsJob) -> Acceptance:
    """Return the limits of the search."""
    size = model_file.size_together(path for files in job.parts.files.values() for path in files)
    options = job.options
    return Acceptance(job.goal, job.allowed, options.confidence, size, "share", options.require)


def _proof(job: PartsJob, limits: Acceptance, chosen: Sequence[MeasuredForm], share: float) -> TriedWhole:
    forms = tuple(one.form for one in chosen)
    chain = job.parts.with_files({path: file for one in forms for path, file in one.used.items()})
    before, after = (
        score_chain(job.parts.chain, one, job.holdout, job.length, job.runtime) for one in (job.parts.chain, chain)
    )
    lost = drop(before, after, seed=job.options.seed)
    both: dict[str, Chain] = {BASELINE: job.parts.chain, "whole": chain}
    speed = job.timing.measure(both, 3 * job.options.latency_s)["whole"]
    size = limits.baseline_bytes - sum(one.saved_bytes for one in chosen)
    probability = lost.probability_within(job.allowed)
    standing = limits.standing(probability, share, lost)
    verdict, why = limits.verdict(lost, speed.text_speedup, size, speed.text_unsure)
    reason = "" if verdict is Verdict.WITHIN else why
    if not reason and not standing:
        reason = f"the probability of being within the budget is {probability:.3f}, required: {limits.asked(share):.3f}"
    return TriedWhole(forms, lost, probability, limits.asked(share), standing, reason, speed, size)
