from onnxopt.document.blocks import Column, Document, Facts, Table, Text
from onnxopt.run.finished import Run


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
