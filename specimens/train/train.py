"""Trains one of the specimens and writes its folder: weights, configuration, tokenizer, facts and model card.

    python specimens/train/train.py jamba-bytes --text kjv.txt
    python specimens/train/train.py qwen3-next-bytes --text kjv.txt
    python specimens/train/train.py digits-s4d

One thread, float32, no accelerator. A language model's run that is cut off goes on from its last checkpoint when
started again. The text is what Debian's bible-kjv prints:

    apt-get install bible-kjv && bible -f gen1:1-rev22:21 > kjv.txt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

SPECIMENS = Path(__file__).resolve().parents[1]
NAMES = ("jamba-bytes", "qwen3-next-bytes", "digits-s4d")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--text", type=Path, help="the text a language model is trained on")
    parser.add_argument("--steps", type=int, default=1600, help="optimizer steps (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=2.5e-3, help="peak learning rate (default %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="where checkpoints are kept")
    parser.add_argument("--output", type=Path, help="the folder to write (default specimens/NAME)")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    work, output = arguments.work / arguments.name, arguments.output or SPECIMENS / arguments.name
    if arguments.name == "digits-s4d":
        import digits

        digits.run(output, arguments.seed)
    else:
        if arguments.text is None:
            parser.error(f"{arguments.name} needs --text FILE")
        import language
        from loop import Recipe

        recipe = Recipe(steps=arguments.steps, seed=arguments.seed, peak_rate=arguments.rate)
        language.run(arguments.name, arguments.text, recipe, work, output)


if __name__ == "__main__":
    main()
