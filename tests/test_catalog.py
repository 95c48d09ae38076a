"""Passes by name and as text."""

import json
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt import catalog
from onnxopt.catalog import available_passes, format_pass, format_passes, make_pass, options_of, parse
from onnxopt.errors import UsageError
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Applied, Context, Effect, Pass
from tests import strategies

any_pass = st.sampled_from(sorted(available_passes())).flatmap(lambda n: strategies.passes(available_passes()[n]))


def test_every_module_of_the_folder_is_a_pass() -> None:
    found = available_passes()
    assert {"quantize-dynamic", "quantize-static", "simplify"} <= set(found)
    assert list(found) == sorted(found)
    for name, kind in found.items():
        assert kind.name == name
        home = "prune_whole_units" if name in ("prune-heads", "prune-groups") else name.replace("-", "_")
        assert kind.__module__.startswith("onnxopt.passes.")
        assert kind.__module__.rsplit(".", 1)[-1] == home


@settings(max_examples=300)
@given(st.lists(any_pass, min_size=1, max_size=3))
def test_text_reads_back_to_equal_passes(passes: list) -> None:
    assert parse(format_passes(tuple(passes))) == tuple(passes)


@settings(max_examples=200)
@given(any_pass)
def test_json_reads_back_to_an_equal_pass(spec: object) -> None:
    options = json.loads(json.dumps(options_of(spec)))
    assert make_pass(spec.name, options) == spec


@given(any_pass)
def test_options_are_those_that_differ_from_the_default(spec: object) -> None:
    default = type(spec)()
    assert all(getattr(default, key) != getattr(spec, key) for key in options_of(spec))
    assert (options_of(spec) == {}) == (spec == default)
    assert format_pass(default) == spec.name


@settings(max_examples=500)
@given(st.text(alphabet='abs{}[]=,"\\ \n1.-esimplfyuqant', max_size=30) | st.text(max_size=20))
def test_any_other_text_is_refused_in_our_words(text: str) -> None:
    found = parsed(text)
    if isinstance(found, UsageError):
        assert found.code in ("ONX101", "ONX102", "ONX103", "ONX104")
        assert "\n" not in str(found)
    else:
        assert parse(format_passes(found)) == found


def parsed(text: str) -> tuple[Pass, ...] | UsageError:
    """Return what `text` says, or our refusal; any other exception passes through."""
    try:
        return parse(text)
    except UsageError as error:
        return error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("simplify", (Simplify(),)),
        (" simplify { } ", (Simplify(),)),
        ("simplify{fuse=false},quantize-dynamic", (Simplify(fuse=False), QuantizeDynamic())),
        ("quantize-static{exclude=[conv1,fc]}", (QuantizeStatic(exclude=("conv1", "fc")),)),
        ("quantize-static{exclude=[]}", (QuantizeStatic(),)),
        ("quantize-static{ method = entropy , samples = 7 }", (QuantizeStatic(method="entropy", samples=7),)),
        ('quantize-static{exclude=["a,b","1"]}', (QuantizeStatic(exclude=("a,b", "1")),)),
        ("quantize-static{exclude=[model/conv:0;1]}", (QuantizeStatic(exclude=("model/conv:0;1",)),)),
    ],
)
def test_what_people_write(text: str, expected: tuple) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("", "ONX104", "a name"),
        ("simplify,", "ONX104", "a name"),
        ("simplify{", "ONX104", "a name"),
        ("simplify{fuse}", "ONX104", "'='"),
        ("simplify{fuse=true", "ONX104", "','"),
        ("simplify}", "ONX104", "nothing more"),
        ('quantize-static{exclude=["a]}', "ONX104", "does not end"),
        ("simplfy", "ONX103", "'simplify'"),
        ("simplify{fuze=true}", "ONX102", "'fuse'"),
        ("simplify{fuse=perhaps}", "ONX101", "perhaps"),
        ("quantize-static{method=magic}", "ONX101", "'minmax'"),
        ("quantize-static{percentile=40}", "ONX101", "40"),
        ("quantize-static{samples=0}", "ONX101", "0"),
        ("quantize-static{exclude=conv}", "ONX101", "conv"),
        ("simplify{fuse=true,fuse=false}", "ONX104", "twice"),
        ("quantize-static{exclude=" + "[" * 5000, "ONX104", ""),
    ],
)
def test_what_is_wrong_is_named(text: str, code: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.code == code
    assert says in str(caught.value)


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch):
    """Have an entry point of another package, which names an object of this file."""

    def plug(name: str, attribute: str):
        entry = EntryPoint(name, f"{__name__}:{attribute}", catalog.PLUGINS)
        monkeypatch.setattr(catalog, "entry_points", lambda group: [entry] if group == catalog.PLUGINS else [])
        catalog.plugins.cache_clear()

    yield plug
    monkeypatch.undo()
    catalog.plugins.cache_clear()


@dataclass(frozen=True)
class Idle(Pass):
    """Do nothing."""

    name: ClassVar[str] = "idle"
    effect: ClassVar[Effect] = Effect.EXACT

    times: int = 1

    def apply(self, model: ir.Model, context: Context) -> Applied:
        return Applied(model)


@dataclass(frozen=True)
class Simplified(Idle):
    """Take the name of a built-in pass."""

    name: ClassVar[str] = "simplify"


def test_a_pass_of_another_package_is_found_by_its_entry_point(plugged) -> None:
    plugged("idle", "Idle")
    assert parse("idle{times=2}") == (Idle(2),)
    assert "simplify" in available_passes()


@pytest.mark.parametrize(
    ("name", "attribute", "why"),
    [
        ("idle", "nothing", "AttributeError"),
        ("idle", "parsed", "not a dataclass that derives from onnxopt.Pass"),
        ("lazy", "Idle", "must be the name of the entry point"),
        ("simplify", "Simplified", "another pass has this name"),
    ],
)
def test_an_entry_point_that_cannot_be_used_harms_no_other_pass(plugged, name: str, attribute: str, why: str) -> None:
    plugged(name, attribute)
    assert why in catalog.plugins().refused[name]
    assert available_passes()["simplify"] is Simplify
    if name != "simplify":
        with pytest.raises(UsageError, match=f"ONX103.*{why}"):
            parse(name)
