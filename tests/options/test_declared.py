from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

import pytest
from annotated_types import Gt
from typing_extensions import Doc

from onnxopt.options.declared import Word, declared_options
from onnxopt.options.training import DistillOptions, FinetuneOptions
from onnxopt.passes.distill import Distill
from onnxopt.passes.finetune import Finetune


@dataclass(frozen=True)
class Base:
    """Options.

    Attributes:
        size: of the thing, in
            metres.
        kind: one of two.
    """

    size: Annotated[float, Gt(0)] = 1.0
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Further(Base):
    """More of them.

    Attributes:
        kind: one of two, but other ones.
    """

    length_s: Annotated[float | None, Doc("Of time."), Word("length", metavar="SECONDS")] = None
    names: tuple[str, ...] = field(default_factory=tuple)


def test_an_option_says_all_there_is_to_know_about_it():
    size, kind, length, names = declared_options(Further)
    assert (size.field, size.word, size.kind, size.default, size.about) == (
        "size",
        "size",
        float,
        1.0,
        "Of the thing, in metres.",
    )
    assert size.notes == (Gt(0),)
    assert kind.about == "One of two, but other ones."
    assert (length.field, length.word, length.written.metavar, length.about) == (
        "length_s",
        "length",
        "SECONDS",
        "Of time.",
    )
    assert (names.default, names.about) == ((), "")


@pytest.mark.parametrize(("kind", "options"), [(Distill, DistillOptions), (Finetune, FinetuneOptions)])
def test_a_pass_that_trains_has_the_options_of_its_command_and_no_other(kind, options):
    assert [f.name for f in fields(kind)] == [f.name for f in fields(options)]
    assert kind() == kind(**{o.field: o.default for o in declared_options(options)})


@pytest.mark.parametrize("options", [DistillOptions, FinetuneOptions])
def test_every_option_of_a_training_says_what_it_is_for(options):
    assert all(o.about.endswith(".") for o in declared_options(options))
