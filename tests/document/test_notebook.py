from onnxopt.document.blocks import Column, Displayed, Document, Facts, Table, Text
from onnxopt.document.terminal import to_text
from onnxopt.exporters.export import Exported
from onnxopt.report.summary import summary
from onnxopt.run.finished import Run
from onnxopt.tasks.apply import Made
from onnxopt.tasks.compare import Compared
from onnxopt.tasks.data.made import SampleFile
from onnxopt.tasks.evaluate import Evaluated
from onnxopt.tasks.repaired import Repaired


def test_a_document_is_html_in_a_notebook():
    table = Table((Column("a"), Column("b")), (("1\nlow", "<script>"),), title="T & t")
    shown = Document((table, Facts((("x", "<b>"),)), Text(("one", "two <i>"))))._repr_html_()
    assert "<td>1<br>low</td><td>&lt;script&gt;</td>" in shown
    assert "<b>T &amp; t</b>" in shown
    assert "<tr><th>x</th><td>&lt;b&gt;</td></tr>" in shown
    assert "<p>two &lt;i&gt;</p>" in shown


def test_a_run_shows_its_table(explained, explained_record):
    shown = Run(explained, explained_record)._repr_html_()
    assert shown.count("<tr>") == 4
    assert "dynamic wins: 2.50x faster" in shown


def test_a_result_prints_as_its_command_does(explained, explained_record):
    run = Run(explained, explained_record)
    assert str(run) == to_text(summary(explained_record, explained)).rstrip("\n")
    assert "RunRecord(" not in str(run)


def test_every_result_prints_as_its_document():
    document = Document((Text(("Two words.",)),))
    assert str(document) == "Two words."
    for result in (Made, Compared, Evaluated, Repaired, SampleFile, Exported, Run):
        assert issubclass(result, Displayed)
        assert result.__str__ is Displayed.__str__
