"""The command line: one file a command, and the one place where an error becomes an exit code."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from unetcli import __version__
from unetcli.cli import doctor, evaluate, export, predict, prepare, train
from unetcli.cli.distributing import DistributingCommand, is_started_among_others, schedule_if_asked
from unetcli.errors import DataError, UnetError
from unetcli.framework import prepare_process


class ErrorReportingGroup(TyperGroup):
    """Shows a `UnetError` as two lines on stderr and leaves with its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a bug passes through with its traceback."""
        try:
            return super().invoke(ctx)
        except UnetError as error:
            typer.secho(f"error: {error}", fg="red", err=True)
            if error.hint:
                typer.echo(f"hint:  {error.hint}", err=True)
            raise typer.Exit(error.exit_code) from error
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # of the library that typer checks with
            raise
        except OSError as error:  # a full disk, a folder that may not be written to
            if error.strerror is None or isinstance(error, BrokenPipeError):
                raise
            place = f"{error.filename}: " if error.filename else ""
            typer.secho(f"error: {place}{error.strerror}", fg="red", err=True)
            raise typer.Exit(DataError.exit_code) from error
        except KeyboardInterrupt as interruption:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from interruption


app = typer.Typer(
    cls=ErrorReportingGroup,
    name="unet",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"unet {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[  # noqa: ARG001 - acted on in its callback
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Take biomedical images to a trained, measured and deployable U-Net, on MindSpore."""
    prepare_process()
    if is_started_among_others():
        schedule_if_asked()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name need not be text; JSON has this escape too


app.add_typer(prepare.app, name="prepare")
app.command("train", cls=DistributingCommand)(train.train)
app.command("eval", cls=DistributingCommand)(evaluate.evaluate)
app.command("predict", cls=DistributingCommand)(predict.predict)
app.command("export")(export.export)
app.command("doctor")(doctor.doctor)
