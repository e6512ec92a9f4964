import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(autouse=True)
def few_threads():
    import torch

    torch.set_num_threads(2)
