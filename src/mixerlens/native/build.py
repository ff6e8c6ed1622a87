"""Making the shared library with the C compiler that is there."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-std=c11", "-O2", "-fno-fast-math", "-ffp-contract=fast", "-fPIC", "-shared", "-fvisibility=hidden")
LIBRARIES = ("-lpthread",)
SECONDS = 120  # a compiler that takes longer is stopped


class Unavailable(Exception):
    """There is no library; the message says why, in one line."""


class Uncached(Unavailable):
    """The cache cannot be used."""


@dataclass(frozen=True)
class Compiler:
    """The command of a C compiler; ``identity`` changes when the compiler does."""

    command: tuple[str, ...]
    identity: str

    def build(self, levels: int, into: Path) -> None:
        """Compile ``SOURCE`` for these instruction sets (the sum of 4, 2 and 1, see there) to a shared library.

        Raises Unavailable with the first line of what the compiler said.
        """
        defines = (f"-DLEVELS={levels}", f'-DSOURCE="{source_hash()}"')
        command = [*self.command, *FLAGS, *defines, "-o", str(into), str(SOURCE), *LIBRARIES]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=SECONDS,
                env={**os.environ, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"build failed: {self.command[0]} took more than {SECONDS} s") from None
        except OSError as error:
            raise Unavailable(f"build failed: {self.command[0]}: {error.strerror or error}") from None
        if done.returncode:
            said = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
            wrong = [line for line in said if "error" in line] or said or [f"exit code {done.returncode}"]
            raise Unavailable(f"build failed: {wrong[0]}")


def compiler() -> Compiler:
    """The compiler of $CC, else cc, gcc or clang. Raises Unavailable where there is none."""
    for text in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        try:
            command = shlex.split(text)
        except ValueError:  # a quotation that does not end
            continue
        path = shutil.which(command[0]) if command else None
        if path is not None:
            found = os.stat(path)
            return Compiler((path, *command[1:]), f"{path} {command[1:]} {found.st_size} {found.st_mtime_ns}")
    raise Unavailable("no C compiler: neither $CC nor cc, gcc or clang is there")


def source_hash() -> str:
    """What a library must have been built from. Raises Unavailable where the source cannot be read."""
    try:
        return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:32]
    except OSError as error:
        raise Unavailable(f"{SOURCE.name}: {error.strerror or error}") from None


def levels() -> int:
    """The instruction set that torch uses here: a library for one is built in a third of the time."""
    import torch

    return {"AVX512": 4, "AVX2": 2}.get(torch.backends.cpu.get_cpu_capability(), 1)


def key(by: Compiler, wanted: int) -> str:
    """Names a library by everything that it depends on."""
    parts = (source_hash(), by.identity, FLAGS, LIBRARIES, wanted, platform.system(), platform.machine())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
