"""All commands by name."""

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from onnxopt.cli import (
    check,
    completion,
    device,
    diagnose,
    export,
    init,
    judge,
    look,
    make,
    mend,
    recover,
    report,
    resume,
    search,
    worker,
)
from onnxopt.cli.groups import command_of
from onnxopt.search.candidate_names import legend_line

app = typer.Typer(
    name="onnxopt",
    help="Make an ONNX model smaller and faster within an accuracy budget, with the measurements that prove it.",
    epilog="Start with: onnxopt optimize MODEL --data SAMPLES. Exit codes: 0 limit met; 1 limit not met; "
    "2 usage, data; 3 model rejected; 4 runtime failed; 5 disk; 70 bug; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: the pretty one imports rich before the arguments are even parsed.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)

_COMMANDS: Mapping[str, Callable[..., int]] = {
    "optimize": search.optimize,
    "resume": resume.resume,
    "quantize": make.quantize,
    "apply": make.apply,
    "repair": mend.repair,
    "variants": mend.variants,
    "export": export.export,
    "distill": recover.distill,
    "finetune": recover.finetune,
    "data": init.data,
    "inspect": look.inspect,
    "evaluate": judge.evaluate,
    "compare": judge.compare,
    "benchmark": judge.benchmark,
    "generation": judge.generation,
    "diagnose": diagnose.diagnose,
    "sensitivity": diagnose.sensitivity,
    "session": device.session,
    "bundle": device.bundle,
    "check": check.check,
    "audit": mend.audit,
    "verify": check.verify,
    "card": check.card,
    "log-run": report.log_run,
    "report": report.report,
    "device-result": device.device_result,
    "worker": worker.worker,
    "mcp": worker.mcp,
    "passes": look.passes,
    "doctor": look.doctor,
    "schema": look.schema,
    "init": init.init,
    "completion": completion.completion,
}
_EPILOGS: Mapping[str, str] = {"optimize": legend_line()}
for name, function in _COMMANDS.items():
    app.command(name, epilog=_EPILOGS.get(name))(command_of(function))


def _version(wanted: bool) -> None:
    if wanted:
        from onnxopt import __version__

        print(f"onnxopt {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Apply the options in front of the command."""
