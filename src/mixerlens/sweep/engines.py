"""How runs that are not stored yet are computed: one after the other here, or by several processes of this machine.

An engine takes a function and configurations and gives (configuration, result or failure) pairs in whatever order they
are finished. It is a generator: closing it ends all it started.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from ..errors import InputError, MixerLensError
from .config import RunConfig, RunResult

__all__ = ["ATTEMPTS", "ENGINES", "Failure", "Outcome", "Run", "Started", "attempt", "start"]

ATTEMPTS = 3  # of a run whose process dies under it: killed, or out of memory
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Failure:
    """Why a run has no result, in one line."""

    reason: str


Run = Callable[[RunConfig], RunResult]
Outcome = RunResult | Failure
Started = Callable[[RunConfig], None]


def start(
    engine: str, run: Run, configs: Sequence[RunConfig], workers: int | None, address: str | None, begun: Started
) -> Iterator[tuple[RunConfig, Outcome]]:
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


def attempt(run: Run, config: RunConfig) -> Outcome:
    """The result, or the error that ended the run; an interruption is none."""
    try:
        return run(config)
    except Exception as error:
        own = "" if isinstance(error, MixerLensError) else f"{type(error).__name__}: "  # whose words say what to do
        return Failure(f"{own}{' '.join(str(error).split())}"[:400])


def _here(run: Run, configs: Sequence[RunConfig], begun: Started) -> Iterator[tuple[RunConfig, Outcome]]:
    for config in configs:
        begun(config)
        yield config, attempt(run, config)


class _Worker:
    """A process that computes one run after the other; it ends when nobody is there to give it one."""

    def __init__(self, run: Run) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(run, far), daemon=True)
        with _uninterrupted():
            self.process.start()
        far.close()
        self.config: RunConfig | None = None

    def give(self, config: RunConfig) -> None:
        self.config = config
        with suppress(OSError):  # it died meanwhile: `take` says so
            self.pipe.send(config)

    def take(self) -> Outcome | None:
        """None where the process died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _processes(
    run: Run, configs: Sequence[RunConfig], workers: int, begun: Started
) -> Iterator[tuple[RunConfig, Outcome]]:
    waiting, tried = deque(configs), dict.fromkeys(configs, 0)
    team: dict[Connection, _Worker] = {}
    try:
        idle: list[_Worker] = []
        while waiting or len(idle) < len(team):
            while waiting and (idle or len(team) < workers):
                if not idle:
                    worker = _Worker(run)
                    team[worker.pipe] = worker
                    idle.append(worker)
                config = waiting.popleft()
                tried[config] += 1
                idle.pop().give(config)
                begun(config)
            busy = [pipe for pipe, worker in team.items() if worker not in idle]
            for pipe in wait(busy):
                worker = team[pipe]  # type: ignore[index] - pipes are all it waits for
                config, outcome = worker.config, worker.take()
                assert config is not None
                if outcome is not None:
                    idle.append(worker)
                    yield config, outcome
                    continue
                team.pop(worker.pipe).end()
                if tried[config] < ATTEMPTS:
                    waiting.append(config)
                else:
                    yield config, Failure(f"its process died {ATTEMPTS} times (killed, or out of memory?)")
    finally:
        for worker in team.values():
            worker.end()


def _work(run: Run, pipe: Connection) -> None:
    with suppress(EOFError, OSError):
        while True:
            pipe.send(attempt(run, pipe.recv()))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A process started in here never hears an interrupt of its group: that is the sweep's to answer."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
