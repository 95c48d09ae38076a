"""Nodes in the order in which they can run: ONNX asks for it, tools that append nodes do not keep to it."""

import heapq
from collections.abc import Iterator

import onnx

from onnxopt.model_file.heap import without_collections
from onnxopt.model_file.proto import subgraphs

Body = onnx.GraphProto | onnx.FunctionProto


def bodies_of(proto: onnx.ModelProto) -> Iterator[Body]:
    """Return the graph, the functions, and every graph inside them."""
    waiting: list[Body] = [proto.graph, *proto.functions]
    while waiting:
        body = waiting.pop()
        yield body
        waiting += subgraphs(body)


def sort_nodes(body: Body) -> onnx.NodeProto | None:
    """Put every node behind its sources and those of its subgraphs, in the given order otherwise; in place.

    Returns:
        A node of a circle, where nodes read each other in one, and nothing is changed; else None.
    """
    with without_collections():  # of thousands of lists, none of which is garbage before the end
        needs, order = _order(body)
    if len(order) < len(needs):
        return body.node[_in_circle(needs, set(order))]
    if order != sorted(order):
        place = {before: now for now, before in enumerate(order)}
        nodes = list(body.node)  # held, for protobuf gives one object per part while it is held
        places = {id(node): place[i] for i, node in enumerate(nodes)}
        body.node.sort(key=lambda node: places[id(node)])
    return None


def _order(body: Body) -> tuple[list[list[int]], list[int]]:
    """Return the nodes that each node needs, and the order in which nodes can run; those of a circle are not in it.

    A node that is needed for two inputs counts twice, which lists hold in less time than sets once.
    """
    nodes = list(body.node)
    source = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    reads = (_reads(node) if node.attribute else node.input for node in nodes)
    needs = [[source[name] for name in names if name in source] for names in reads]
    readers: list[list[int]] = [[] for _ in needs]
    for reader, sources in enumerate(needs):
        for i in sources:
            readers[i].append(reader)
    missing = [len(sources) for sources in needs]
    ready, order = [i for i, count in enumerate(missing) if not count], list[int]()
    while ready:
        order.append(heapq.heappop(ready))
        for reader in readers[order[-1]]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    return needs, order


def _in_circle(needs: list[list[int]], placed: set[int]) -> int:
    """Return a node of a circle, found by going back from a node that could not be placed until one comes again."""
    at, seen = next(i for i in range(len(needs)) if i not in placed), set[int]()
    while at not in seen:
        seen.add(at)
        at = min(set(needs[at]) - placed)
    return at


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Return the names a node reads, those that its subgraphs take from around them included."""
    yield from filter(None, node.input)
    waiting = [a.g for a in node.attribute if a.HasField("g")] + [g for a in node.attribute for g in a.graphs]
    while waiting:
        graph = waiting.pop()
        own = {v.name for some in (graph.input, graph.initializer) for v in some}
        own |= {name for inner in graph.node for name in inner.output}
        read = [name for inner in graph.node for name in inner.input] + [value.name for value in graph.output]
        yield from (name for name in read if name and name not in own)
        waiting += subgraphs(graph)
