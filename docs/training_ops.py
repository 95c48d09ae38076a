"""Print docs/training-ops.md: `python docs/training_ops.py > docs/training-ops.md`."""

from onnxopt.training.module.coverage import covered

TITLES = {"": "The standard operator set", "ai.onnx.ml": "ai.onnx.ml", "com.microsoft": "com.microsoft"}


def page() -> str:
    """Return the page."""
    lines = [
        "# Operators that can be trained",
        "",
        "This page is made by `docs/training_ops.py`. Constant, If, Loop and Scan are",
        "carried out while the plan of a run is made: what they choose or repeat may depend on shapes, not on data.",
        "`distill` and `finetune` run what is not here in ONNX Runtime; no gradient passes it, and what lies before it",
        "learns to compute the inputs that the baseline gives it.",
    ]
    for domain, title in TITLES.items():
        names = sorted(op for where, op in covered() if where == domain)
        lines += ["", f"## {title}", "", f"{len(names)} operators: {', '.join(names)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
