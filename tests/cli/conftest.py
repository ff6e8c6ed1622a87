"""The command line, called in this process (fast) or as a process of its own (exit codes, closed pipes)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.helpers import SOURCE, save


@pytest.fixture
def mixerlens():
    """Calls ``mixerlens`` with these arguments in this process; the result has exit_code, stdout and stderr."""
    from mixerlens.cli.app import app

    return lambda *arguments, columns=100: CliRunner(env={"COLUMNS": str(columns)}).invoke(
        app, list(map(str, arguments))
    )


@pytest.fixture
def process():
    """Starts ``mixerlens`` with these arguments as a process; pipes for stdout and stderr unless told otherwise."""

    def start(*arguments, **options) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        command = [sys.executable, "-m", "mixerlens", *map(str, arguments)]
        usual = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
        # a shell's background jobs ignore interrupts, and so would all that they start
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(command, text=True, preexec_fn=heed, **(usual | options))

    return start


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory) -> Path:
    """A tiny random llama without a tokenizer: 2 layers, 97 tokens, a context of 128."""
    return save("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def s4d_folder(tmp_path_factory) -> Path:
    """A tiny random S4D classifier: 2 layers, 3 channels. Opening it needs no transformers, so it is the fast one."""
    import torch

    from mixerlens.models.s4d import S4DClassifier, S4DConfig

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "s4d"
    S4DClassifier(S4DConfig(channels=3, classes=2, features=5, modes=4, layers=2)).save(folder)
    return folder
