"""The report as a reader uses it, in a real browser without a network."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from record.quantities import QUANTITIES
from record.run import Run
from results.choice import Rule, choose, keeps
from results.front import complete, front
from results.points import points
from results.report import report
from tests.conftest import ROOT
from tests.made_runs import made_run, mixed_run

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
DRAWN = "performance.getEntriesByName('report drawn').length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Reader:
    """A page with a report, what its console said, and what it wanted from a network."""

    def __init__(self, browser: Any, run: Run, path: Path) -> None:
        run.source, run.folder = "runs/made", Path("runs/made")
        report(run, path)
        self.run, self.errors, self.requests = run, [], []
        self.page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.route(lambda url: not url.startswith(("file:", "data:", "blob:")), self.refuse)
        self.page.goto(path.as_uri())
        self.page.wait_for_function(DRAWN)

    def refuse(self, route: Any) -> None:
        self.requests.append(route.request.url)
        route.abort()

    def limit(self, **limits: float) -> None:
        """Move sliders, the others to where they limit nothing."""
        script = """limits => {
            for (const slider of sliders) slider.value = limits[slider.id] ?? slider.dataset.loosest;
            sliders[0].oninput();
        }"""
        self.page.evaluate(script, limits)

    def traces(self, figure: str = "front") -> dict[str, dict[str, Any]]:
        """Each trace of a figure by its name: x, y and the numbers of its trials."""
        script = f"""document.getElementById('{figure}').data.map(t => [t.name ?? 'line', {{
            x: t.x, y: t.y, trials: (t.customdata ?? []).map(i => data.trials.trial[i]), marker: t.marker,
            bars: t.error_y?.array }}])"""
        return dict(self.page.evaluate(script))

    def picked(self) -> int | None:
        names = [name for name in self.traces() if name.startswith("pick: trial ")]
        return int(names[0].removeprefix("pick: trial ")) if names else None

    def wait_for_rows(self, count: int) -> None:
        """Wait until the table of all candidates has as many rows."""
        self.page.wait_for_function(f"document.querySelectorAll('#all tbody tr').length === {count}")

    def limits(self) -> dict[str, float]:
        return self.page.evaluate("limits()")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def click(self, number: int) -> None:
        """Click on the point of a trial in the figure of the front."""
        place = self.page.evaluate(
            """number => {
                const figure = document.getElementById('front'), { xaxis, yaxis } = figure._fullLayout;
                const box = figure.getBoundingClientRect(), t = trials.find(t => t.trial === number);
                const [x, y] = ['x', 'y'].map(a => inUnits(at(a).value, t[at(a).value]));
                return [box.x + xaxis._offset + xaxis.d2p(x), box.y + yaxis._offset + yaxis.d2p(y)];
            }""",
            number,
        )
        self.page.mouse.move(*place)
        self.page.wait_for_selector(f"#front .hovertext:has-text('trial {number},')", state="attached")
        self.page.mouse.click(*place)
        self.page.wait_for_function("number => at('heading').textContent === `Trial ${number}`", arg=number)


@pytest.fixture(scope="module")
def reader(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    path = tmp_path_factory.mktemp("report") / "report.html"
    return Reader(browser, mixed_run(150), path)


@pytest.fixture(autouse=True)
def as_it_opens(request: pytest.FixtureRequest) -> None:
    if "reader" in request.fixturenames:
        reader = request.getfixturevalue("reader")
        chosen = {"x": "throughput", "y": "accuracy", "colour": "", "rule": "max-accuracy"}
        reader.page.evaluate("chosen => { for (const id in chosen) at(id).value = chosen[id]; }", chosen)
        reader.limit()


def test_a_thousand_trials_fit_in_six_megabytes_and_need_no_network(browser: Any, tmp_path: Path) -> None:
    reader = Reader(browser, mixed_run(1000, epochs=27), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 6e6
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    reader.page.screenshot(path=build / "report.png", full_page=True)
    reader.page.click("#all summary")
    reader.wait_for_rows(1000)
    assert reader.errors == []
    assert reader.requests == []
    reader.page.close()


def test_every_trained_trial_is_drawn_once_and_the_front_is_pythons(reader: Reader) -> None:
    run, traces = reader.run, reader.traces()
    assert set(traces["front"]["trials"]) == set(front(run).index)
    rest = complete(run).index.difference(front(run).index)
    assert sorted(traces["at full budget"]["trials"]) == list(rest)
    stopped = run.trials[run.trials["outcome"] == "stopped"]
    assert sorted(traces["stopped early, last accuracy"]["trials"]) == list(stopped.index)
    under_way = run.trials[run.trials["outcome"].isin(["running", "paused"])]
    assert sorted(traces["under way, accuracy so far"]["trials"]) == list(under_way.index)
    assert set(traces["stopped early, last accuracy"]["marker"]["symbol"]) == {"x"}
    shown = points(run)
    for trace in (traces["front"], traces["stopped early, last accuracy"]):
        np.testing.assert_array_equal(trace["y"], shown.loc[trace["trials"], "accuracy"])
        np.testing.assert_array_equal(trace["x"], shown.loc[trace["trials"], "throughput"])
    above = (shown["high"] - shown["accuracy"]).loc[traces["front"]["trials"]]
    np.testing.assert_allclose(traces["front"]["bars"], above, atol=0.011)


@pytest.mark.parametrize("rule", list(Rule))
@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_params": 400_000},
        {"max_macs": 5_000_000, "min_accuracy": 70.5},
        {"min_throughput": 9_000, "max_params": 300_000},
        {"max_latency": 8.0, "min_accuracy": 60},
    ],
)
def test_sliders_grey_out_what_exceeds_them_and_the_pick_is_pythons(
    reader: Reader, rule: Rule, limits: dict[str, float]
) -> None:
    reader.page.select_option("#rule", rule)
    reader.limit(**limits)
    given = reader.limits()
    assert set(given) == set(limits)
    assert all(abs(given[name] / limits[name] - 1) < 0.02 for name in limits)  # a slider moves in steps
    run, shown = reader.run, points(reader.run)
    kept = keeps(shown, given)
    assert kept.any()
    grey = reader.traces().get("exceeds a limit", {"trials": []})
    assert sorted(grey["trials"]) == list(shown.index[~kept])
    number = choose(run.trials[keeps(run.trials, given)], rule, run.objectives, run.maximise)
    assert reader.picked() == number
    assert reader.text("#choice").startswith(f"Trial {number}\n")
    assert reader.text("#heading") == f"Trial {number}, the pick"
    done = (kept & (shown["outcome"] == "complete")).sum()
    assert f"{done} of {len(complete(run))} complete trials keep the limits." in reader.text("#choice")


def test_a_slider_shows_its_number_and_its_loosest_end_limits_nothing(reader: Reader) -> None:
    label = "label:has(#max_params) output"
    assert reader.text(label) == "any"
    reader.limit(max_params=400_000)
    assert float(reader.text(label)) * 1e6 == pytest.approx(reader.limits()["max_params"])


def test_impossible_limits_say_so(reader: Reader) -> None:
    reader.limit(max_params=1, min_accuracy=100)
    assert reader.text("#choice") == "No trial keeps these limits."
    assert reader.picked() is None
    assert not reader.page.is_visible("#trial")
    assert reader.text("#heading") == "No trial picked"


def test_a_click_shows_the_trial_its_network_and_its_commands(reader: Reader) -> None:
    number = int(front(reader.run).index[-1])
    reader.click(number)
    trial = reader.run.trials.loc[number]
    assert reader.text("#commands pre").splitlines() == [
        f"python analyze.py pick runs/made --trial {number}",
        "python run_search.py runs/made/pick.yaml",
        f"python analyze.py export runs/made --trial {number}",
    ]
    assert f"{trial['throughput']:,.0f} img/s" in reader.text("#costs")
    assert reader.page.locator("#stages li").count() == len(trial["config"]["stages"])
    assert json.loads(reader.page.text_content("#config")) == trial["config"]
    curve = reader.run.epochs[reader.run.epochs["trial"] == number]["accuracy"]
    assert reader.traces("curves")[f"trial {number}"]["y"][:-1] == list(curve)
    reader.limit(max_params=400_000)
    assert reader.text("#heading") == f"Trial {reader.picked()}, the pick"


def test_a_stopped_trial_has_nothing_to_export(reader: Reader) -> None:
    shown = points(reader.run)
    alone = int(shown[shown["outcome"] == "stopped"]["accuracy"].idxmin())
    reader.click(alone)
    assert "stopped" in reader.text("#costs")
    assert "export" not in reader.text("#commands pre")
    assert f"pick runs/made --trial {alone}" in reader.text("#commands pre")


@pytest.mark.parametrize("name", [name for name, q in QUANTITIES.items() if not q.by and name != "latency_p99"])
def test_any_quantity_can_be_an_axis_with_its_unit(reader: Reader, name: str) -> None:
    for axis in ("x", "y"):
        reader.page.select_option(f"#{axis}", name)
        title = reader.page.evaluate(f"document.getElementById('front').layout.{axis}axis.title.text")
        assert title == QUANTITIES[name].axis
    trace = reader.traces()["at full budget"]
    expected = reader.run.trials.loc[trace["trials"], name].astype(float) / QUANTITIES[name].divisor
    np.testing.assert_allclose(trace["x"], expected, rtol=1e-3)


def test_a_parameter_colours_its_values_and_what_was_not_asked(reader: Reader) -> None:
    reader.page.select_option("#colour", "param.stage1.groups")
    traces = reader.traces()
    shown = points(reader.run)
    groups = shown["param.stage1.groups"]
    for value in (1, 2, 4):
        assert sorted(traces[str(value)]["trials"]) == list(shown.index[groups == value])
    assert sorted(traces["not asked"]["trials"]) == list(shown.index[groups.isna()])
    colours = [traces[name]["marker"]["color"] for name in ("1", "2", "4", "not asked")]
    assert len(set(colours)) == 4
    reader.limit(max_params=400_000)
    assert set(reader.traces()["exceeds a limit"]["trials"]).isdisjoint(reader.traces()["1"]["trials"])


def test_a_quantity_colours_by_a_scale(reader: Reader) -> None:
    reader.page.select_option("#colour", "params")
    trace = reader.traces()["params"]
    np.testing.assert_allclose(trace["marker"]["color"], reader.run.trials.loc[trace["trials"], "params"] / 1e6)
    assert "params (M)" in reader.page.locator("#front .colorbar").text_content()


def test_all_candidates_are_in_the_table_and_sort_by_a_click(reader: Reader) -> None:
    reader.page.click("#all summary")
    reader.wait_for_rows(150)
    rows = reader.page.locator("#all tbody tr")
    reader.page.click("#all th:has-text('accuracy')")
    best = points(reader.run)["accuracy"].idxmax()
    assert rows.first.locator("td").first.inner_text() == str(best)
    reader.page.click("#all summary")


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        (["failed", "infeasible"], "No trial has an accuracy yet"),
        (["running", "stopped"], "No trial is complete yet"),
        (["complete", "running", "failed"], "Too few complete trials for importance (1 of 8)."),
    ],
)
def test_runs_without_much_say_so(browser: Any, tmp_path: Path, outcomes: list[str], said: str) -> None:
    reader = Reader(browser, made_run(outcomes), tmp_path / "report.html")
    assert said in reader.text("body")
    assert reader.errors == []
    if "complete" not in outcomes:
        reader.wait_for_rows(len(outcomes))
    if outcomes[0] == "running":
        assert reader.text("#choice") == "No trial is complete yet."
    reader.page.close()


def test_three_objectives_and_missing_throughputs_are_drawn(browser: Any, tmp_path: Path) -> None:
    run = made_run(["complete"] * 15 + ["stopped"] * 5, ("accuracy", "latency", "params"), limits={"max_latency": 1e6})
    run.trials.loc[[2, 7, 16], ["throughput", "throughput_p10", "throughput_p90", "latency", "relative"]] = np.nan
    reader = Reader(browser, run, tmp_path / "report.html")
    assert set(reader.traces()["front"]["trials"]) == set(front(run).index)
    for rule in Rule:
        reader.page.select_option("#rule", rule)
        assert reader.picked() == choose(run.trials, rule, run.objectives, run.maximise)
    reader.page.select_option("#colour", "throughput")
    reader.page.select_option("#x", "params")
    assert sorted(reader.traces()["not known"]["trials"]) == [2, 7, 16]
    assert reader.errors == []
    reader.page.close()


def test_a_run_that_measured_nothing_has_no_knee(browser: Any, tmp_path: Path) -> None:
    run = made_run(["complete"] * 4)
    run.trials[["throughput", "throughput_p10", "throughput_p90", "latency", "relative"]] = np.nan
    reader = Reader(browser, run, tmp_path / "report.html")
    assert reader.picked() == choose(run.trials, Rule.max_accuracy, run.objectives, run.maximise)
    for rule in (Rule.max_throughput, Rule.knee):
        reader.page.select_option("#rule", rule)
        assert reader.text("#choice") == "No trial has what this rule looks at."
    assert reader.errors == []
    reader.page.close()
