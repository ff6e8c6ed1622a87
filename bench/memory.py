"""Peak memory of one contender: what one call adds to a process that has done the imports and made the inputs.

`Server` is a process of its own, started before anything was computed; it answers each request in a fork of its own.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from bench import resident
from bench.case import Case, Outputs, Size


class Server:
    """The process that forks, started by the first ``peak``; use it as a context manager."""

    def __init__(self, threads: int) -> None:
        self._command = [sys.executable, "-m", "bench.memory", str(threads)]
        self._environment = environment(threads)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()  # closes its input, on which it ends

    def peak(self, case: Case, contender: str, size: Size) -> dict[str, Any]:
        """The bytes that one call added at its peak, and those of its result. Raises RuntimeError if it broke off."""
        if self._process is None or self._process.poll() is not None:  # the system may have ended it
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
            )
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None and answers is not None
        try:
            print(json.dumps([case.name, contender, dict(size)]), file=requests, flush=True)
            answer = json.loads(answers.readline() or '"the memory process ended"')
        except BrokenPipeError:
            answer = "the memory process ended"
        if answer == "the memory process ended":
            self._process.wait()
        if not isinstance(answer, dict):
            raise RuntimeError(answer)
        return answer


def environment(threads: int) -> dict[str, str]:
    """This process's environment with the thread count and the folders it imports from."""
    root = str(Path(__file__).resolve().parents[1])
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    path = os.pathsep.join([root, *filter(None, sys.path)])
    return {**os.environ, **counts, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}


def peak(case: Case, name: str, size: Size) -> dict[str, Any]:
    """Bytes that one call of a contender adds at its peak over imports and inputs, those of its result, its remark."""
    from bench.gate import inputs

    contender = case.contender(name)
    small = contender.prepare(inputs(case, case.quick))
    contender.call(small)  # imports inside functions and library buffers are there from now on
    del small
    given = contender.prepare(inputs(case, size))
    gc.collect()
    resident.give_back()
    before = resident.mark()
    result = contender.call(given)
    after = resident.peak()
    found: dict[str, Any] = {"peak": max(after - before, 0), "result": _bytes(contender.unpack(result))}
    return found | ({"remark": contender.remark(result)} if contender.remark else {})


def _bytes(outputs: Outputs) -> int:
    stores = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in outputs}
    return sum(stores.values())


def serve(requests: Iterable[str], threads: int) -> None:
    """A line of JSON a request, a line of JSON an answer: a dictionary, or the reason why there is none."""
    import logging

    import torch

    from bench.cases import CASES

    logging.disable(logging.WARNING)
    torch.set_num_threads(threads)
    for line in requests:
        name, contender, size = json.loads(line)
        for module in CASES[name].contender(contender).needs:
            import_module(module)
        print(json.dumps(_forked(CASES[name], contender, size)), flush=True)


def _forked(case: Case, contender: str, size: Size) -> Any:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer: Any = peak(case, contender, size)
        except BaseException as failure:
            answer = f"{type(failure).__name__}: {failure}".splitlines()[0]
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(answer) if answer else f"ended with status {status}, for want of memory perhaps"


if __name__ == "__main__":
    serve(sys.stdin, int(sys.argv[1]))
