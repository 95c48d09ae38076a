"""A merged decoder as Optimum writes it: an If with the decoder of the first and that of later tokens."""

from pathlib import Path

import onnx_ir as ir
from onnx import GraphProto, ModelProto, helper

from onnxopt.model_file import from_proto, save, to_proto
from tests.builders import F
from tests.tasks.parts.seq2seq import decoder, encoder

CACHE = [f"past_key_values.0.{kind}.{role}" for kind in ("decoder", "encoder") for role in ("key", "value")]


def merged() -> ir.Model:
    """Return the two decoders as branches of an If, which read the same weights of the graph around them."""
    weights = dict[bytes, str]()
    first, later = (to_proto(decoder(past=past)) for past in (False, True))
    # What the decoder of later tokens does not make is passed on.
    for name in CACHE[2:]:
        later.graph.node.append(helper.make_node("Identity", [name], [name.replace("past_key_values", "present")]))
    outer = list[object]()
    branches = [_branch(one, prefix, first, weights, outer) for one, prefix in ((later, "later_"), (first, "first_"))]
    names = [output.name for output in first.graph.output]
    node = helper.make_node("If", ["use_cache_branch"], names, then_branch=branches[0], else_branch=branches[1])
    inputs = {value.name: value for one in (first, later) for value in one.graph.input}
    inputs["use_cache_branch"] = helper.make_tensor_value_info("use_cache_branch", 9, [1])
    graph = helper.make_graph([node], "merged", list(inputs.values()), list(first.graph.output), outer)
    return from_proto(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))


def _branch(
    model: ModelProto, prefix: str, whole: ModelProto, weights: dict[bytes, str], outer: list[object]
) -> GraphProto:
    """Return a branch with names of its own, but for weights, which go into `outer` once."""
    names = dict[str, str]()
    for tensor in model.graph.initializer:
        key = tensor.SerializeToString().replace(tensor.name.encode(), b"")
        if key not in weights:
            weights[key] = f"weight_{len(weights)}"
            copy = type(tensor)()
            copy.CopyFrom(tensor)
            copy.name = weights[key]
            outer.append(copy)
        names[tensor.name] = weights[key]
    made = [name for node in model.graph.node for name in node.output]
    names |= {name: prefix + name for name in made}
    for node in model.graph.node:
        for some in (node.input, node.output):
            some[:] = [names.get(name, name) for name in some]
    outputs = [helper.make_tensor_value_info(prefix + output.name, F, None) for output in whole.graph.output]
    return helper.make_graph(list(model.graph.node), f"{prefix}branch", [], outputs)


def merged_folder(place: Path) -> Path:
    """Write the folder of an encoder and a merged decoder; return it."""
    (place / "onnx").mkdir(parents=True)
    save(encoder(), place / "onnx" / "encoder_model.onnx")
    save(merged(), place / "onnx" / "decoder_model_merged.onnx")
    return place
