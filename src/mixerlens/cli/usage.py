"""Usage errors - an unknown verb or option, a missing argument, a value of the wrong kind - in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from .output import plain

USAGE_ERROR: Any = typer.BadParameter.__base__  # typer exports this subclass of it only, and moved its base


class OneLineGroup(TyperGroup):
    """The verbs; a usage error ends as one line on stderr and exit code 2 instead of typer's box."""

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        with _in_one_line():
            return super().make_context(*arguments, **named)

    def invoke(self, ctx: Any) -> Any:
        with _in_one_line():
            return super().invoke(ctx)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # no error: it stands for the help text
            raise
        path = error.ctx.command_path if error.ctx is not None else "mixerlens"
        message = " ".join(error.format_message().split()).removesuffix(".").replace("Value error, ", "")
        for wrong in getattr(error.__cause__, "errors", list)()[:1]:  # pydantic's, which do not name every value
            if str(wrong["input"]) not in message:
                message += f"; got {wrong['input']!r}"
        typer.echo(f"{path}: {plain(message)} (see {path} --help)", err=True)
        raise typer.Exit(error.exit_code) from None
