"""Hypothesis strategies that several tests use."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from pydantic import TypeAdapter

from onnxopt.errors import UsageError
from onnxopt.pipeline import Pass

texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["1", "1e3", "nan", "true", "null", "", " ", "a b", 'a"b', "a\\b", "[x]", "{", "=", ",", "é:0", "\n"]
    ),
)
"""Names as exporters write them, and those that look like something else."""


def passes(kind: type[Pass]) -> st.SearchStrategy[Pass]:
    """Return passes of `kind` with arbitrary options, read from the schema of its fields."""
    schema = TypeAdapter(kind).json_schema().get("properties", {})
    options = {name: GRAMMARS[name] if name in GRAMMARS else _of_schema(part) for name, part in schema.items()}
    chosen = st.fixed_dictionaries({}, optional=options)
    return chosen.filter(lambda some: _agree(kind, some)).map(lambda some: kind(**some))


GRAMMARS = {"pattern": st.sampled_from(["unstructured", "2:4", "4x1"])}
"""Text options that have a grammar of their own."""


def _agree(kind: type[Pass], options: dict[str, Any]) -> bool:
    """Return whether the options do not contradict each other, which a pass may refuse."""
    try:
        kind(**options)
    except UsageError:
        return False
    return True


def _of_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of(*map(_of_schema, schema["anyOf"]))
    if schema.get("type") == "null":
        return st.none()
    if "const" in schema:
        return st.just(schema["const"])
    low, high = schema.get("minimum"), schema.get("maximum")
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    match schema["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            least = low if over is None else over + 1
            return st.integers(least, high if under is None else under - 1)
        case "number":
            return st.floats(
                low if over is None else over,
                high if under is None else under,
                exclude_min=over is not None,
                exclude_max=under is not None,
                allow_nan=False,
                allow_infinity=False,
            )
        case "array":
            return st.lists(_of_schema(schema["items"]), max_size=4).map(tuple)
        case "string":
            return texts
    raise AssertionError(f"a pass option has a type that options cannot have: {schema}")


@st.composite
def activations(draw: st.DrawFn) -> np.ndarray:
    """Draw the float32 values of one tensor: of any size, sign and shape of distribution, with spikes and outliers."""
    seed, count = draw(st.integers(0, 2**16)), draw(st.integers(1, 3000))
    rng = np.random.RandomState(seed)
    scale = 10.0 ** draw(st.integers(-12, 12))
    kind = draw(
        st.sampled_from(["normal", "relu", "positive", "negative", "constant", "outlier", "sparse", "integers"])
    )
    values = rng.standard_normal(count)
    match kind:
        case "relu":
            values = np.maximum(values, 0)
        case "positive":
            values = np.abs(values) + draw(st.sampled_from([0.0, 1.0, 100.0]))
        case "negative":
            values = -np.abs(values) - draw(st.sampled_from([0.0, 1.0, 100.0]))
        case "constant":
            values[:] = values[0] * draw(st.sampled_from([0, 1]))
        case "outlier":
            values[0] *= 1000
        case "sparse":
            values[rng.random_sample(count) < 0.9] = 0
        case "integers":
            values = np.round(values)
    return (values * scale).astype(np.float32)
