"""A hub id is opened through the library's own cache, without a network."""

import os
import subprocess
import sys
from pathlib import Path

from capture import tiny

REVISION = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import mixerlens as ml
lens = ml.open("someone/tiny-llama")
print(lens.model_type, len(lens.layers), lens.tokenizer)
try:
    ml.open("someone/other")
except ml.errors.ModelError as error:
    print(error)
"""


def test_a_cached_hub_id_opens_and_an_absent_one_is_one_line(tmp_path):
    repository = tmp_path / "models--someone--tiny-llama"
    tiny.build("llama").save_pretrained(repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    source = str(Path(__file__).parents[2] / "src")
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": source}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "llama 2 None",
        "someone/other is no folder here, not in the cache, and the hub does not answer",
    ], done.stderr
