"""Study files with mistakes in them: each ends in a sentence, soon and in little memory, and none in a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.faults.mutations import case, report


def test_a_case_is_decided_by_its_number(tiny: Path) -> None:
    studies = {"tiny": yaml.safe_load(tiny.read_text())}
    assert case(3, 0, studies) == case(3, 0, studies)
    assert len({case(number, 0, studies).text for number in range(30)}) > 20


def test_some_mistakes_in_a_small_study_end_in_sentences(tiny: Path) -> None:
    found = report(range(30), 1, {"tiny": yaml.safe_load(tiny.read_text())})
    assert found["cases"] == []
    assert found["sentences"] > 10
    assert found["studies"] > 3


@pytest.mark.slow
def test_two_thousand_mistakes_end_in_sentences() -> None:
    line = [sys.executable, "-m", "tests.faults.mutations", "--count", "2000", "--seed", "0"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True)
    found = json.loads(done.stdout)
    assert found["cases"] == []
    assert found["sentences"] + found["studies"] == 2000
