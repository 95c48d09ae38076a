"""The functions that a model defines, and how many nodes they become once every call is expanded."""

from collections.abc import Iterator

import onnx

from onnxopt.errors import ModelError
from onnxopt.model_file.proto import subgraphs

MAX_EXPANDED_NODES = 1_000_000
"""Every tool expands calls in place; a file of 3 kB can stand for 2**40 nodes."""

MAX_CALL_DEPTH = 100

_Key = tuple[str, str, str]


def check_functions(proto: onnx.ModelProto, where: str) -> None:
    """Refuse functions that call themselves, or that expand to more nodes than any model has.

    Raises:
        ModelError: ONX305, naming the function.
    """
    bodies = {(_domain(f.domain), f.name, f.overload): f for f in proto.functions}
    calls = {key: [c for c in _calls(body) if c in bodies] for key, body in bodies.items()}
    sizes: dict[_Key, int] = {}
    for key in bodies:
        _measure(key, bodies, calls, sizes, where)
    total = sum(sizes.get(call, 1) for call in _calls(proto.graph))
    if total > MAX_EXPANDED_NODES:
        raise _refused("the graph", f"its calls of functions expand to more than {MAX_EXPANDED_NODES:,} nodes", where)


def _measure(
    first: _Key,
    bodies: dict[_Key, onnx.FunctionProto],
    calls: dict[_Key, list[_Key]],
    sizes: dict[_Key, int],
    where: str,
) -> None:
    path = [first]
    while path:
        key = path[-1]
        name = f"the function {'::'.join(_text(part) for part in key if part)!r}"
        if key in sizes:
            path.pop()
            continue
        waiting = next((call for call in calls[key] if call not in sizes), None)
        if waiting is None:
            # Each call also counts its own node, so a chain of empty functions is not free.
            sizes[key] = 1 + sum(1 for _ in _calls(bodies[key])) + sum(sizes[call] for call in calls[key])
            if sizes[key] > MAX_EXPANDED_NODES:
                raise _refused(name, f"it expands to more than {MAX_EXPANDED_NODES:,} nodes", where)
        elif waiting in path:
            raise _refused(name, "it calls itself, directly or through others", where)
        elif len(path) >= MAX_CALL_DEPTH:
            raise _refused(name, f"its calls are more than {MAX_CALL_DEPTH} deep", where)
        else:
            path.append(waiting)


def _calls(body: onnx.GraphProto | onnx.FunctionProto) -> Iterator[_Key]:
    """Return the names that the nodes of a body and its subgraphs call, operators included."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [body]
    while waiting:
        part = waiting.pop()
        yield from ((_domain(node.domain), node.op_type, node.overload) for node in part.node)
        waiting += subgraphs(part)


def _text(name: str | bytes) -> str:
    """Return a name as text; protobuf gives one that is not UTF-8 as bytes."""
    return name if isinstance(name, str) else name.decode(errors="replace")


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name  # two names of one domain


def _refused(what: str, why: str, where: str) -> ModelError:
    return ModelError(
        "ONX305",
        "the model is invalid",
        where=where,
        why=f"{what}: {why}",
        hint="Export it again without functions, or with the functions inlined.",
    )
