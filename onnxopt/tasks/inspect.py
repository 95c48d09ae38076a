"""Description of a model: inputs, outputs, size, layers, cost."""

from collections.abc import Mapping
from dataclasses import asdict

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.document import units
from onnxopt.document.blocks import Block, Column, Document, Facts, Table, Text
from onnxopt.document.units import count, many, size
from onnxopt.errors import UsageError
from onnxopt.graph.layers import Anatomy, Layer, anatomy_of
from onnxopt.graph.weights.sparsity import Sparsity, sparsity_of
from onnxopt.measure.generation.states import states_of
from onnxopt.measure.latency.profile import profile
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import Given, Signature, TensorSpec, as_graph, given, signature_of
from onnxopt.model_file.save import external_files
from onnxopt.samples import open_samples, schema_text
from onnxopt.search.parts import typical_feeds
from onnxopt.tasks.advice import advice
from onnxopt.tasks.benchmark_runs import inputs_of
from onnxopt.tasks.groups import groups_document
from onnxopt.tasks.operators import operators_of, operators_table, times_table


def inspect(
    model: Given,
    *,
    dim: Mapping[str, int] | None = None,
    sparsity: bool = False,
    time: bool = False,
    advise: bool = False,
    schema: bool = False,
    groups: bool = False,
    spectrum: bool = False,
    measure: bool = False,
) -> Document:
    """Describe a model: inputs, outputs, versions, size, layers and their work; `.data` has the figures for programs.

    Args:
        model: the input model (not modified); the result has the SHA-256 of a file.
        dim: sizes of named dynamic dimensions, for the MACs; others count as 1.
        sparsity: whether to read every weight and count its zeros.
        time: whether to run the model and measure the time of each operator.
        advise: whether to list the techniques that fit the model, which tries those that need no data.
        schema: show only the data that the model takes, and how to make some.
        groups: show only which channels are pruned together, and which cannot be pruned.
        spectrum: show only the rank that each layer needs, and the cost at that rank.
        measure: whether `spectrum` times each layer whole and factorized.

    Raises:
        UsageError: ONX109 two of `schema`, `groups` and `spectrum`, ONX112 `measure` without `spectrum`.
        FileError: ONX501 the file does not exist, ONX505 it cannot be read.
        ModelError: ONX301 to ONX303 it is not a model.
        NativeError: ONX403 `measure` on an emulated processor.
    """
    only = [name for name, chosen in (("schema", schema), ("groups", groups), ("spectrum", spectrum)) if chosen]
    if len(only) > 1:
        raise UsageError("ONX109", "these options exclude each other", where=", ".join(only), hint="Give one of them.")
    if measure and not spectrum:
        raise UsageError("ONX112", "this option belongs to spectrum", where="measure", hint="Give spectrum too.")
    if schema:
        return schema_document(model)
    if groups:
        return groups_document(model)
    if spectrum:
        from onnxopt.tasks.spectrum import spectrum_document

        return spectrum_document(model, dim or {}, measure=measure)
    return inspect_model(model, dim or {}, sparsity=sparsity, timed=time, advised=advise)


def inspect_model(
    model: Given, sizes: Mapping[str, int], *, sparsity: bool = False, timed: bool = False, advised: bool = False
) -> Document:
    """Return inputs, outputs, versions, sizes and layers of a model.

    Args:
        model: a file or a model in memory; the result has the SHA-256 of a file.
        sizes: the sizes of named dynamic dimensions, for the MACs; others count as 1.
        sparsity: whether to read every weight and count its zeros.
        timed: whether to run the model and add the time by operator.
        advised: whether to add the applicable passes; those without data are tried.
    """
    found = given(model)
    path = None if isinstance(found, ir.Model) else found
    model = as_graph(found)
    signature = signature_of(model)
    files = () if path is None else (path, *external_files(path))
    size_bytes = model_file.size_of(found)
    anatomy = anatomy_of(model, sizes)
    zeros = sparsity_of(model) if sparsity else None
    producer = f"{model.producer_name or 'unknown'} {model.producer_version or ''}".strip()
    domains = {domain or "ai.onnx": version for domain, version in sorted(model.opset_imports.items())}
    shapes = ", ".join(f"{name} {_shape(shape)}" for name, shape in anatomy.input_shapes.items())
    unknown = f" (and {many(anatomy.macs_unknown, 'node')} of unknown shape)" if anatomy.macs_unknown else ""
    facts = Facts(
        (
            *(("input", str(spec)) for spec in signature.inputs),
            *(("output", str(spec)) for spec in signature.outputs),
            ("opset", ", ".join(f"{domain} {version}" for domain, version in domains.items())),
            ("IR version", str(model.ir_version)),
            ("producer", producer),
            ("size", size(size_bytes) + (f" in {len(files)} files" if len(files) > 1 else "")),
            ("parameters", count(anatomy.parameters)),
            *(() if zeros is None else (("sparsity", _total_sparsity(zeros)),)),
            ("MACs", f"{_macs(anatomy)} at {shapes}{unknown}"),
        ),
        title="a model in memory" if path is None else str(path),
    )
    data: dict[str, object] = {
        "path": None if path is None else str(path),
        "sha256": None if path is None else model_file.sha256_of(path),
        "size_bytes": size_bytes,
        "files": [str(file) for file in files],
        "inputs": [_spec(spec) for spec in signature.inputs],
        "outputs": [_spec(spec) for spec in signature.outputs],
        "opset_imports": domains,
        "ir_version": model.ir_version,
        "producer": producer,
        **_anatomy_data(anatomy, zeros),
    }
    operators = operators_of(model, anatomy.macs_of_operators)
    data["by_operator"] = [asdict(operator) for operator in operators]
    blocks: list[Block] = [facts, operators_table(operators), _layers(anatomy, zeros)]
    if timed:
        feeds = typical_feeds(open_samples(inputs_of(model, None, Runtime()), signature), 1)
        measured = profile(model, feeds, Runtime())
        blocks.append(times_table(measured))
        data["time_by_operator_ms"] = dict(measured.by_op)
    if advised:
        lines = advice(model, anatomy)
        blocks.append(Text(("Applicable passes:", *(f"- {line}" for line in lines))))
        data["advice"] = list(lines)
    return Document(tuple(blocks), data)


def schema_document(model: Given) -> Document:
    """Return the data that a model expects."""
    signature = signature_of(as_graph(model))
    states = {state.input.name: state.output.name for state in states_of(signature)}
    return Document((Text(tuple(schema_text(signature, states).splitlines())),), schema_data(signature))


def schema_data(signature: Signature) -> dict[str, object]:
    """Return inputs and outputs, JSON-ready."""
    return {
        "inputs": [_spec(spec) for spec in signature.inputs],
        "outputs": [_spec(spec) for spec in signature.outputs],
    }


def _spec(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": None if spec.shape is None else list(spec.shape)}


def _anatomy_data(anatomy: Anatomy, zeros: Sparsity | None) -> dict[str, object]:
    return {
        **({} if zeros is None else {"sparsity": zeros.total}),
        "parameters": anatomy.parameters,
        "macs": anatomy.macs,
        "macs_unknown_nodes": anatomy.macs_unknown,
        "macs_input_shapes": anatomy.input_shapes,
        "operators": anatomy.operators,
        "layers": [
            {
                "name": layer.name,
                "op_type": layer.op_type,
                "weight_shape": layer.weight_shape,
                "parameters": layer.parameters,
                "macs": layer.macs,
                "output_shape": layer.output_shape,
                **({} if zeros is None else {"sparsity": zeros.of_layer(layer.name)}),
            }
            for layer in anatomy.layers
        ],
    }


def _layers(anatomy: Anatomy, zeros: Sparsity | None) -> Table:
    columns = (
        Column("layer"),
        Column("operator"),
        Column("weight"),
        Column("parameters", number=True),
        Column("MACs", number=True),
        *(() if zeros is None else (Column("sparsity", number=True),)),
    )
    return Table(columns, tuple(_row(layer, zeros) for layer in anatomy.layers))


def _row(layer: Layer, zeros: Sparsity | None) -> tuple[str, ...]:
    macs = "?" if layer.macs is None else count(layer.macs) if layer.macs else "-"
    last = () if zeros is None else (_share(zeros.of_layer(layer.name)),)
    return (layer.name, layer.op_type, _shape(layer.weight_shape), count(layer.parameters), macs, *last)


def _macs(anatomy: Anatomy) -> str:
    """Return the known MACs; `unknown` if no node is known."""
    if anatomy.macs_unknown:
        return f"at least {count(anatomy.macs)}" if anatomy.macs else "unknown"
    return count(anatomy.macs)


def _total_sparsity(zeros: Sparsity) -> str:
    return f"{_share(zeros.total)} of {count(zeros.elements)} float weights are zero"


def _share(sparsity: float | None) -> str:
    return "-" if sparsity is None else f"{100 * sparsity:.1f} %"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "?" if shape is None else units.shape(shape)
