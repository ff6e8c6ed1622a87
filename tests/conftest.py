"""What every test runs under: no hub, one thread, fixed seeds, no random state left behind."""

from __future__ import annotations

import os

# before transformers or huggingface_hub is imported anywhere: they read these once
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import random

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Each test starts from the same seeds, so that its numbers do not depend on which tests ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the legacy state is what libraries under test draw from
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def default_dtype_is_kept():
    """A test that leaves another default dtype behind would change every later one."""
    before = torch.get_default_dtype()
    yield
    after = torch.get_default_dtype()
    torch.set_default_dtype(before)
    assert after == before, f"the test left the default dtype at {after}"
