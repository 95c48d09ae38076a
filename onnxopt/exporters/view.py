"""What an export is shown as."""

from onnxopt import model_file
from onnxopt.exporters.export import Exported
from onnxopt.report import units
from onnxopt.report.document import Document, Facts, Text


def exported_document(made: Exported) -> Document:
    """Return what was exported and how close it is to its source."""
    verified = made.verified
    apart = "not checked, the batch size is fixed" if verified.rows_apart is None else f"{verified.rows_apart:.1e}"
    pairs = {
        "source": made.framework,
        "exporter": f"{made.exporter}, {', '.join(f'{k} {v}' for k, v in made.versions.items())}",
        "opset": str(model_file.opset_of(made.model) or "none of the standard set"),
        "takes": str(model_file.signature_of(made.model)),
        "difference from the source": f"{verified.difference:.1e} of the largest output, {verified.batches} batches",
        "a row alone and among others": apart,
        "size": units.size(model_file.size_of(made.model)),
    }
    lines = [f"Note: {note}." for note in made.notes]
    if made.files:
        lines.append(f"Written: {', '.join(map(str, made.files))}.")
    data = {
        "framework": made.framework,
        "exporter": made.exporter,
        "versions": dict(made.versions),
        "difference": verified.difference,
        "rows_apart": verified.rows_apart,
        "notes": list(made.notes),
        "files": [str(file) for file in made.files],
    }
    return Document((Facts(tuple(pairs.items())), Text(tuple(lines))), data)
