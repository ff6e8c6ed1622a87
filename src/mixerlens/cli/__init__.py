"""The command line: ``mixerlens VERB MODEL``. One file a verb; everything they share is in the other files here."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of the ``mixerlens`` script; leaves by ``SystemExit`` with the codes documented in ``verb``."""
    if sys.stdout is None:  # started with a closed stdout: there is nobody to write to, which is no error
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process
    try:
        from .app import app

        app(prog_name="mixerlens")
    except KeyboardInterrupt:  # while modules load; later ones are met in `verb`
        sys.exit(130)
