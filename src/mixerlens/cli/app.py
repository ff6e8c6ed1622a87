"""The table of verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .bench_tasks import bench_tasks
from .design import design
from .doctor import doctor
from .explain import explain
from .families import families
from .horizon import horizon
from .inspect import inspect
from .principles import principles
from .report import report
from .reproduce import reproduce
from .spectrum import spectrum
from .tasks import tasks
from .usage import OneLineGroup
from .verb import verb
from .verify import verify
from .waves import waves

VERBS = (
    inspect,
    verify,
    report,
    spectrum,
    horizon,
    principles,
    waves,
    explain,
    families,
    reproduce,
    design,
    tasks,
    bench_tasks,
    doctor,
)

app = typer.Typer(
    name="mixerlens",
    cls=OneLineGroup,
    help="Open a trained sequence model, prove what its token mixers compute, and show it.",
    epilog="Exit codes: 0 all is well, 1 a check fails, 2 bad input, 3 internal error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mixerlens {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Open a trained sequence model, prove what its token mixers compute, and show it."""


for _verb in VERBS:
    app.command(name=_verb.__name__.replace("_", "-"))(verb(_verb))
