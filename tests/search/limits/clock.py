"""A clock that a test sets."""

from onnxopt.search.limits.deadline import Deadline


class Moved:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def deadline(limit_s: float | None, reserve_s: float = 0.0) -> tuple[Deadline, Moved]:
    clock = Moved()
    made = Deadline(limit_s, clock=clock)
    made.reserve_s = reserve_s
    return made, clock
