"""Measure every model file again and rewrite the table in `models/README.md`. Trains nothing."""

from common import MODELS, Facts, measure

START, END = "<!-- table -->", "<!-- end of table -->"
LAYOUTS = {
    "digits_resnet": "nchw",
    "digits_dscnn": "nchw",
    "digits_vit": "nchw",
    "digits_lstm": "rows",
    "digits_gru": "rows",
    "digits_mlp": "flat",
    "digits_keras": "nhwc",
    "digits_jax": "nhwc",
}


def row(facts: Facts) -> str:
    """Return one line of the table."""
    (feed,) = (f"`{name}` {shape.removeprefix('float ')}" for name, shape in facts.inputs.items())
    cells = (
        f"[{facts.name}]({facts.name}.md)",
        facts.accuracy_text,
        f"{facts.parameters:,}",
        f"{facts.size_bytes:,}",
        str(facts.opsets["ai.onnx"]),
        feed,
        ", ".join(facts.ops),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, rewrite the table, print it."""
    columns = ("Model", "Accuracy", "Parameters", "Bytes", "Opset", "Input", "Operators")
    lines = [f"| {' | '.join(columns)} |", "|---|---|---:|---:|---:|---|---|"]
    for name, layout in LAYOUTS.items():
        lines.append(row(measure(name, (MODELS / f"{name}.onnx").read_bytes(), layout)))
    table = "\n".join(lines)
    readme = MODELS / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{START}\n{table}\n{END}{after}", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
