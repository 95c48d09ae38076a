"""The report of a run as Markdown, for a job summary or a pull request."""

from onnxopt.document.blocks import Block, Document, Table, Text
from onnxopt.document.markdown import to_markdown
from onnxopt.printable import printable
from onnxopt.record.run import RunRecord
from onnxopt.report.caveats import caveats
from onnxopt.report.device_result import device_table
from onnxopt.report.findings import findings
from onnxopt.report.recovery import recovery_table
from onnxopt.report.summary import headline, judged_lines
from onnxopt.report.tables import choice_table, names_table, proofs_table, trials_table


def to_paper(run: RunRecord) -> str:
    """Return the Markdown of the report."""
    blocks: list[Block] = [Text((f"# {headline(run)}", *judged_lines(run), *findings(run)))]
    for title, table in (
        ("Baseline, best, smallest, fastest", choice_table(run)),
        ("Candidates", trials_table(run)),
        ("Names", names_table(run)),
        ("Proof", proofs_table(run)),
        ("Recovery", recovery_table(run)),
    ):
        if table is not None:
            blocks += [Text((f"## {title}",)), Table(table.columns, table.rows, table.title)]
    for device in run.devices:
        table = device_table(device)
        blocks += [
            Text((f"## On {device.facts.get('device', 'another device')}",)),
            Table(table.columns, table.rows, device.refused or ""),
        ]
    blocks.append(Text(("## Caveats", *(f"- {caveat.text}" for caveat in caveats(run)))))
    text = to_markdown(Document(tuple(blocks)))
    again = [f"## {title}\n\n{_verbatim(line)}" for title, line in _commands(run).items() if line]
    return "\n\n".join([text.rstrip(), *again]) + "\n"


def _commands(run: RunRecord) -> dict[str, str | None]:
    return {"Reproduce the model": run.repro, "Reproduce the run": run.command}


def _verbatim(text: str) -> str:
    """Indent a text as a Markdown code block, which its content cannot end."""
    return "\n".join(f"    {line}" for line in printable(text).splitlines())
