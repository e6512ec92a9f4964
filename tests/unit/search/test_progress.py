"""What is shown while a study runs: on a terminal, in a notebook, and where neither is."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from search.progress import Display
from tests.made_runs import made_run

RUN = made_run(["complete", "running", "failed"])
WIDGETS = """
class Output:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def clear_output(self, wait): pass
    def close(self): pass
"""


def shown(console: Console) -> str:
    """Let three trials change, and return what a console recorded."""
    with Display(console, RUN.study, RUN.reference, []) as display:
        for trial in RUN.entries:
            display.changed(trial)
        if display.shows:
            display.live.refresh()
    return console.export_text()


def test_a_line_is_written_for_each_trial_that_ends() -> None:
    console = Console(file=io.StringIO(), record=True, width=150)
    assert shown(console) == ""
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[:3] for line in lines] == [["trial", "0", "complete"], ["trial", "2", "failed"]]
    assert "hypervolume" in lines[0]
    assert lines[1].endswith("the loss is not finite </script>")


def test_a_terminal_shows_the_trials_and_a_bar_and_no_lines() -> None:
    console = Console(file=io.StringIO(), record=True, width=150, force_terminal=True)
    text = shown(console)
    assert "2/20" in text
    assert "running" in text
    assert "trial 0" not in text


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_shows_the_same_if_it_has_widgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, widgets: bool
) -> None:
    if widgets:  # as rich uses them
        (tmp_path / "ipywidgets.py").write_text(WIDGETS)
        (tmp_path / "IPython").mkdir()
        (tmp_path / "IPython" / "__init__.py").touch()
        (tmp_path / "IPython" / "display.py").write_text("def display(*_, **__): pass\n")
        monkeypatch.syspath_prepend(tmp_path)
        for name in ("ipywidgets", "IPython", "IPython.display"):
            monkeypatch.setitem(sys.modules, name, None)  # so that it is not left there
            del sys.modules[name]
    else:
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    console = Console(file=io.StringIO(), record=True, force_jupyter=True, width=150)
    text = shown(console)
    assert ("2/20" in text) == widgets
    assert ("trial 0 complete" in console.file.getvalue()) != widgets  # type: ignore[attr-defined]
