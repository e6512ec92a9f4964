"""The report as a file: what is in it, and what is written when."""

import json
import re
from pathlib import Path

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from analyze import app
from repmlp import build, config_from_dict
from results.choice import keeps
from results.points import points
from results.report import report
from results.report.embedded import embedded, sliders
from results.report.page import page
from results.report.sections import sections
from tests.driving import engine_of, run_folder
from tests.made_runs import made_run, mixed_run


def test_nothing_of_the_data_can_end_its_script() -> None:
    html = page(made_run(["complete", "failed"]))
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert data
    assert json.loads(data[1])["trials"]["reason"] == ["", "the loss is not finite </script>"]


def test_the_report_says_in_which_precision_was_trained_and_how_long_it_waited() -> None:
    run = made_run(["complete"] * 3)
    assert "hours in all, in float32.</p>" in page(run)
    run.epochs["waited"] = 0.25 * run.epochs["seconds"]
    assert "hours in all, in float32; 25.0% of them passed in waiting for measurements.</p>" in page(run)


def test_a_network_is_held_once_and_its_values_are_kept_exactly() -> None:
    run = made_run(["complete"] * 3)
    run.trials.at[2, "config"] = run.trials.at[0, "config"]
    data = embedded(run)
    assert data["trials"]["network"] == [0, 1, 0]
    assert len(data["summaries"]) == 2
    assert data["trials"]["throughput"] == run.trials["throughput"].tolist()
    assert data["curves"][1] == run.epochs[run.epochs["trial"] == 1]["accuracy"].tolist()


def test_sliders_reach_over_everything_shown_in_round_numbers() -> None:
    run = mixed_run(60)
    shown = points(run)
    for name, slider in sliders(run).items():
        tight = slider["high"] if slider["loosest"] == slider["low"] else slider["low"]
        assert keeps(shown, {name: slider["loosest"]}).all()
        assert keeps(shown, {name: tight}).sum() <= 1
        assert slider["low"] / slider["step"] == pytest.approx(round(slider["low"] / slider["step"]))


def test_what_does_not_differ_has_no_slider() -> None:
    run = mixed_run(20)
    run.trials["params"] = 7
    assert set(sliders(run)) == {"max_macs", "min_throughput", "max_latency", "min_accuracy"}


def test_the_kernel_of_the_most_accurate_repmlp_is_drawn_from_its_weights(tmp_path: Path) -> None:
    run = made_run(["complete"] * 10)
    run.folder = tmp_path
    titles = [section.title for section in sections(run)]
    assert titles[:2] == ["Hypervolume over time", "Importance of the parameters"]
    assert titles[-1] == "Where RepMLP goes"
    holding = run.trials[run.trials["config"].map(lambda c: any(s["block"]["kind"] == "repmlp" for s in c["stages"]))]
    best = holding["accuracy"].idxmax()
    model = build(config_from_dict(holding.loc[best, "config"]))
    (tmp_path / "weights").mkdir()
    save_file(model.state_dict(), tmp_path / "weights" / f"{best}.safetensors")
    *_, kernel = sections(run)
    assert kernel.title == f"FC3 of trial {best}, the most accurate with RepMLP"
    assert kernel.html.startswith("<img alt=")
    assert 5_000 < len(kernel.html) < 200_000


def test_the_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report(made_run(["complete"]), path)
    before = path.read_text()
    broken = made_run(["complete"])
    broken.environments[0] = {}
    with pytest.raises(KeyError):
        report(broken, path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("command", ["report", "figure"])
def test_a_run_without_trials_is_an_error_and_nothing_is_written(tiny: Path, command: str) -> None:
    engine_of(tiny).journal.opened({}, {})
    folder = run_folder(tiny)
    before = sorted(folder.iterdir())
    result = CliRunner().invoke(app, [command, str(folder)])
    assert result.exit_code == 2
    assert result.stderr == f"error: {folder} has no trial yet.\n"
    assert sorted(folder.iterdir()) == before
