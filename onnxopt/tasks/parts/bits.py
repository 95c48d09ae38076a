"""Forms of a part with the bits of each matrix chosen: by its share of the divergence, and its time at the lengths."""

from collections.abc import Callable, Mapping

from onnxopt.errors import ModelError, NativeError
from onnxopt.options.search import Goal
from onnxopt.search.mix.bits import has_matrices
from onnxopt.search.mix.choice import Outcome, try_forms, try_mixes
from onnxopt.search.mix.mixer import Mixer
from onnxopt.search.trial import Candidate
from onnxopt.tasks.parts.forms import PartForm, make_form
from onnxopt.tasks.parts.job import PartsJob
from onnxopt.tasks.parts.pieces import pieces_of
from onnxopt.tasks.parts.tables import part_tables

_MIX, _UNIFORM = "bits per matrix", "one form for all matrices"
_FIRST = 0.5
"""Share of the budget that the first mix may lose."""


def mixed_forms(
    job: PartsJob, part: str, uniform: Mapping[str, float], drop_of: Callable[[PartForm], float]
) -> list[tuple[PartForm, float]]:
    """Return forms of a part, each of whose matrices has the form that the integer program gives it, and their drops.

    A matrix that several files have, or both branches of a merged decoder, gets one form. A part with small matrices
    only has no such form, nor one whose tables cannot be measured; a mix that is a uniform form is left out. Where time
    is the goal, forms of all matrices in the graph of the mixes follow.

    Args:
        job: the search.
        part: the name of the part.
        uniform: drops of the forms that were measured before, by their passes.
        drop_of: measures the drop of a form.
    """
    files, found = job.parts.files[part], list[tuple[PartForm, float]]()
    if not job.allowed > 0:
        return found
    pieces = pieces_of(job, part)
    if not any(map(has_matrices, pieces.models.values())):
        return found
    try:
        tables = part_tables(job, part, pieces)
    except (ModelError, NativeError):
        return found
    joint = tables.joint
    mixer = Mixer(lambda: joint, _FIRST * job.allowed)

    def attempt(candidate: Candidate) -> Outcome | None:
        passes = tables.passes(mixer.latest)
        only = next(iter(passes.values())) if len(set(passes.values())) == 1 else ""
        if only not in uniform:
            kind, _, number = candidate.name.rpartition("-")
            name = f"{_MIX if kind == 'bits' else _UNIFORM} {number}"
            made = make_form(part, files, name, passes, place=job.place, context=job.context, pieces=pieces)
            if not isinstance(made, PartForm):
                return None
            found.append((made, drop_of(made)))
        lost = max(uniform[only] if only in uniform else found[-1][1], 0.0)
        return Outcome(lost <= job.allowed, lost / job.allowed)

    attempts = try_forms if job.goal is Goal.LATENCY else try_mixes
    attempts(mixer, attempt)
    return found
