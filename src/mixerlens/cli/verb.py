"""What every verb runs inside: exit codes and one-line errors.

Exit codes: 0 everything holds, 1 a check failed, 2 bad input, 3 an error inside mixerlens, 130 interrupted,
141 nobody reads stdout any more.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import get_type_hints

import typer

from ..errors import MixerLensError
from .options import Run
from .output import plain

HOLDS, CHECK_FAILED, BAD_INPUT, INTERNAL, INTERRUPTED, NO_READER = 0, 1, 2, 3, 130, 141
SHOW_TRACEBACK = "MIXERLENS_TRACEBACK"


def verb(function: Callable[..., bool]) -> Callable[..., None]:
    """Make a command of a function that returns whether everything it looked at holds.

    A parameter ``run`` stands for the options that are the fields of ``options.Run``. Every error ends as one line on
    stderr and an exit code. The traceback of an internal error is shown when the environment variable
    ``MIXERLENS_TRACEBACK`` is set.
    """

    own = inspect.signature(function, eval_str=True).parameters
    shared = _fields_as_parameters(Run) if "run" in own else []

    @functools.wraps(function)
    def command(**options) -> None:
        if shared:
            options["run"] = Run(**{parameter.name: options.pop(parameter.name) for parameter in shared})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what matters is raised or reported; stderr is for one line
                holds = function(**options)
            sys.stdout.flush()  # so that a reader who left is met here and not in the interpreter's exit
        except KeyboardInterrupt as stopped:  # with words where there is something to say of what is left
            code = _failure(": ".join(["interrupted", *map(str, stopped.args)]), INTERRUPTED)
        except BrokenPipeError:
            _discard_stdout()
            code = NO_READER
        except (MixerLensError, OSError) as error:
            _drop_what_cannot_be_written()
            code = _failure(_one_line(error), BAD_INPUT)
        except Exception as error:
            if os.environ.get(SHOW_TRACEBACK):
                raise
            kind = type(error).__name__
            message = f"internal error, please report it ({SHOW_TRACEBACK}=1 shows where): {kind}: {_one_line(error)}"
            code = _failure(message, INTERNAL)
        else:
            code = HOLDS if holds else CHECK_FAILED
        raise typer.Exit(code)

    parameters = [*shared, *(parameter for name, parameter in own.items() if name != "run")]
    in_any_order = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    setattr(command, "__signature__", inspect.Signature(in_any_order))  # noqa: B010 - no declared attribute
    return command


def _fields_as_parameters(kind: type) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _failure(message: str, code: int) -> int:
    typer.echo(f"mixerlens: {plain(message)}", err=True)
    return code


def _drop_what_cannot_be_written() -> None:
    """After an error of stdout itself (a full disk), the interpreter's own flush at exit would fail once more."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_stdout()


def _discard_stdout() -> None:
    """Point stdout at nothing, so that flushing it at exit cannot fail a second time."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
