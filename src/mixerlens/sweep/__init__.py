"""Training of designed mixers on tasks: one run, and sweeps of runs that can be interrupted, resumed and spread.

run = RunConfig("mine", (spec, spec), "recall", options, seed=0, steps=400)
train(run)                                 # one row: accuracies with counts, seconds, parameters
Sweep(runs, "reports/mine").run()          # every run of several, stored as soon as it is finished
"""

from .config import RunConfig, RunResult
from .store import read
from .sweep import Finished, Sweep
from .training import train

__all__ = ["Finished", "RunConfig", "RunResult", "Sweep", "read", "train"]
