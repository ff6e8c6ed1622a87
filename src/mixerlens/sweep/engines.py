"""How runs that are not stored yet are computed: one after the other here, or by several processes of this machine.

An engine takes a function and configurations and gives (configuration, result or error) pairs in whatever order they
are finished. It is a generator: closing it ends all it started.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from ..errors import InputError, MixerLensError
from .config import RunConfig, RunResult

__all__ = ["ENGINES", "Outcome", "Run", "Started", "start"]

ATTEMPTS = 3  # of a run whose process dies under it: killed, or out of memory
ENGINES = ("local", "ray")

Run = Callable[[RunConfig], RunResult]
Outcome = tuple[RunConfig, RunResult | Exception]
Started = Callable[[RunConfig], None]


def start(
    engine: str, run: Run, configs: Sequence[RunConfig], workers: int | None, address: str | None, begun: Started
) -> Iterator[Outcome]:
    """The outcomes of all configurations, each once. begun: called with each one as it is handed out.

    Raises InputError for an engine or a number of workers that there is not, UnsupportedError without ray.
    """
    if engine not in ENGINES:
        raise InputError(f"{engine!r} is no engine; choose from {', '.join(ENGINES)}")
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers: give 1 or more")
    if engine == "ray":
        from .cluster import on_ray

        return on_ray(run, configs, workers, address, begun)
    if address is not None:
        raise InputError(f"the address {address} is of a Ray cluster, which the engine ray uses, not {engine}")
    if workers is None or workers == 1:
        return _here(run, configs, begun)
    return _processes(run, configs, workers, begun)


def _here(run: Run, configs: Sequence[RunConfig], begun: Started) -> Iterator[Outcome]:
    for config in configs:
        begun(config)
        try:
            outcome = run(config)
        except Exception as error:
            outcome = error
        yield config, outcome


def _processes(run: Run, configs: Sequence[RunConfig], workers: int, begun: Started) -> Iterator[Outcome]:
    """As many runs at a time as there are workers, so that only those count as tried when a process dies."""
    waiting, tried = deque(configs), dict.fromkeys(configs, 0)
    others = set(multiprocessing.active_children())
    pool = _pool(workers)
    pending: dict[Future[RunResult], RunConfig] = {}
    try:
        while waiting or pending:
            lost: list[RunConfig] = []
            while waiting and len(pending) < workers:
                config = waiting.popleft()
                try:
                    future = pool.submit(run, config)
                except BrokenProcessPool:  # a process died after its last run was fetched
                    waiting.appendleft(config)
                    break
                pending[future] = config
                begun(config)
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                config = pending.pop(future)
                try:
                    yield config, future.result()
                except BrokenProcessPool:
                    lost.append(config)
                except Exception as error:
                    yield config, error
            if lost or (waiting and not pending):
                lost += pending.values()  # one process that dies takes all runs of its pool with it
                pending.clear()
                pool.shutdown(wait=False)
                pool = _pool(workers)
            for config in lost:
                tried[config] += 1
                if tried[config] < ATTEMPTS:
                    waiting.append(config)
                else:
                    yield config, MixerLensError(f"its process died {ATTEMPTS} times (killed, or out of memory?)")
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    """Forked from a server that has loaded what a run needs once, and no thread of this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mixerlens.sweep.training", "mixerlens.design.model"])
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_quiet)


def _quiet() -> None:
    """In a worker: an interrupt of the whole group is the sweep's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
