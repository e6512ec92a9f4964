"""The ablation table, from rows small enough to check by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from record.run import RunError, open_run
from results.ablation import ablation_table, readable_table, title
from results.paper.agreement import agreement, beside_paper, paper_rows
from tests.driving import analysis, engine_of, run_folder, work_off
from tests.frames import run_of

BASE, LOCAL, GLOBAL = [90.0, 91.0, 92.0], [80.0, 82.0, 81.0], [90.1, 91.3, 91.9]
SPACE = {
    "name": "ablation",
    "table": 1,
    "variants": {"A) before conversion": "before_conversion", "B) w/o Local": "without_local"},
}


def rows(scores: dict[str, list[float]], column: str = "test", **values: Any) -> list[dict[str, Any]]:
    """Trials by seed, as an ablation trains them."""
    return [
        {"param.network": name, "seed": seed, "accuracy": 50.0, column: of_seed[seed], **values}
        for seed in range(max(map(len, scores.values())))
        for name, of_seed in scores.items()
        if seed < len(of_seed)
    ]


def three_rows(**values: Any) -> pd.DataFrame:
    scores = {"Pure MLP": BASE, "B) w/o Local": LOCAL, "C) w/o Global": GLOBAL}
    return ablation_table(run_of(*rows(scores, **values), seeds=1, space=SPACE)).set_index("variant")


def test_means_and_differences_are_paired_by_seed() -> None:
    table = three_rows()
    assert list(table.index) == ["Pure MLP", "B) w/o Local", "C) w/o Global"]
    assert list(table["accuracy"]) == pytest.approx([91, 81, 91.1])
    assert list(table["sd"]) == pytest.approx([1, 1, np.std(GLOBAL, ddof=1)])
    assert pd.isna(table.loc["Pure MLP", "difference"])
    test = stats.ttest_rel(LOCAL, BASE)
    assert table.loc["B) w/o Local", "difference"] == pytest.approx(-10)
    assert table.loc["B) w/o Local", "p"] == pytest.approx(test.pvalue)
    low, high = test.confidence_interval(0.95)
    assert (table.loc["B) w/o Local", "low"], table.loc["B) w/o Local", "high"]) == pytest.approx((low, high))
    assert table.loc["B) w/o Local", "p_holm"] == pytest.approx(2 * test.pvalue)


def test_a_missing_seed_is_left_out_of_both() -> None:
    scores = {"Pure MLP": [90.0, 91.0, 92.0, 99.0], "B) w/o Local": LOCAL}
    (_, local) = ablation_table(run_of(*rows(scores), seeds=1, space=SPACE)).to_dict("records")
    assert local["difference"] == pytest.approx(-10)
    assert local["n"] == 3


def test_validation_scores_count_where_the_test_images_were_left_alone() -> None:
    run = run_of(*rows({"Pure MLP": BASE, "B) w/o Local": LOCAL}, column="accuracy"), seeds=1, space=SPACE)
    assert list(ablation_table(run)["accuracy"]) == [91, 81]
    assert "on the validation images" in title(run, ablation_table(run))


def test_two_seeds_give_means_and_say_that_nothing_follows() -> None:
    scores = {"Pure MLP": BASE[:2], "B) w/o Local": LOCAL[:2]}
    table = ablation_table(run_of(*rows(scores), seeds=1, space=SPACE))
    assert table["difference"].iloc[1] == pytest.approx(-9.5)
    assert table[["low", "high", "p", "p_holm"]].iloc[1].isna().all()
    assert "nothing can be concluded" in table["note"].iloc[1]


def test_a_failed_seed_is_named() -> None:
    run = run_of(
        *rows({"Pure MLP": BASE, "B) w/o Local": LOCAL[:2]}),
        {"param.network": "B) w/o Local", "seed": 2, "outcome": "failed", "reason": "Diverged: nan"},
        seeds=1,
        space=SPACE,
    )
    table = ablation_table(run)
    assert table["n"].tolist() == [3, 2]
    assert "1 failed: Diverged: nan" in table["note"].iloc[1]


def test_the_row_before_conversion_has_the_costs_of_training() -> None:
    scores = {"Pure MLP": BASE, "A) before conversion": BASE}
    run = run_of(*rows(scores, training_params=300, relative=1.0, throughput=5.0), seeds=1, space=SPACE)
    base, before = ablation_table(run).to_dict("records")
    assert (base["params"], base["macs"], base["training_macs"], base["throughput"]) == (100, 1000, 2000, 5)
    assert (before["params"], before["macs"], before["accuracy"]) == (300, 2000, 91)
    assert pd.isna(before["throughput"])


def test_the_papers_cells_stand_beside_the_rows_of_the_same_names() -> None:
    run = run_of(*rows({"Pure MLP": BASE, "B) w/o Local": LOCAL, "mine": GLOBAL}), seeds=1, space=SPACE)
    beside = beside_paper(ablation_table(run), paper_rows(run)).set_index("variant")
    assert beside.loc["B) w/o Local", "paper accuracy"] == 82.64
    assert beside.loc["B) w/o Local", "paper difference"] == -8.47
    assert beside.loc["Pure MLP", "paper params (M)"] == 22.41
    assert pd.isna(beside.loc["mine", "paper accuracy"])
    assert "paper FLOPs (M)" in readable_table(beside.reset_index())


def test_the_order_of_the_paper_is_compared_pair_by_pair() -> None:
    scores = {"Pure MLP": BASE, "B) w/o Local": LOCAL, "Wide ConvNet": [89.0, 90.5, 91.0]}
    run = run_of(*rows(scores), seeds=1, space=SPACE)
    text = agreement(run, paper_rows(run))
    assert text.startswith("2 of 3 pairs of rows are in the paper's order.")
    assert "Pure MLP above Wide ConvNet by 0.83 (p 0.038)" in text


def test_a_search_has_no_ablation_table() -> None:
    with pytest.raises(RunError, match="is a search"):
        ablation_table(run_of({"accuracy": 90.0}))
    with pytest.raises(RunError, match="has no result yet: failed"):
        ablation_table(run_of({"outcome": "failed"}, seeds=1, space={"name": "fixed"}))
    with pytest.raises(RunError, match="names no table of the paper"):
        paper_rows(run_of({"accuracy": 90.0}, seeds=1, space={"name": "fixed"}))


def test_the_report_of_an_ablation_has_its_table(ablation: Path) -> None:
    work_off(engine_of(ablation))
    done = analysis("report", run_folder(ablation))
    assert done.exit_code == 0, done.output
    html = (run_folder(ablation) / "report.html").read_text()
    assert "B) w/o Local" in html.split("<h2>Ablation</h2>")[1]


def test_an_ablation_is_printed_in_every_format(ablation: Path) -> None:
    work_off(engine_of(ablation))
    printed = {}
    for style in ("table", "csv", "md", "latex", "json", "html"):
        done = analysis("ablation", run_folder(ablation), "--format", style, "--paper")
        assert done.exit_code == 0, done.stderr
        printed[style] = done.stdout
    records = json.loads(printed["json"])
    assert [r["variant"] for r in records] == ["Pure MLP", "A) before conversion", "B) w/o Local"]
    expected = ablation_table(open_run(str(run_folder(ablation))))
    assert [r["accuracy"] for r in records] == pytest.approx(list(expected["accuracy"]))
    assert records[0]["macs"] < records[0]["training_macs"] == records[1]["macs"]
    assert r"\toprule" in printed["latex"]
    assert r"95 \% interval" in printed["latex"]
    assert "<table" in printed["html"]
    assert all("pairs of rows" in printed[style] for style in ("table", "md", "html"))
    assert "pairs of rows" not in printed["latex"] + printed["csv"]
