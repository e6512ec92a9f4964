"""The paper's tables: our exact counts, the printed cells, and how the two are set side by side."""

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import analyze
from repmlp.paper import TABLES
from results.paper import comparison
from results.paper.comparison import BASELINES, TITLES, compare, cut_as
from search.measuring.costs import network_costs, training_costs

Counts = dict[str, dict[str, int]]

# Multiply-adds and parameters of the converted networks, from the paper's counting conventions.
EXACT = {
    1: {
        "Pure MLP": (52_843_520, 22_414_426),
        "B) w/o Local": (52_843_520, 22_414_426),
        "C) w/o Global": (52_515_840, 22_085_210),
        "D) FC3 as conv9": (66_212_864, 815_674),
        "E) RepMLP as conv9": (65_885_184, 486_458),
        "Wide ConvNet": (65_180_672, 507_498),
    },
    2: {
        "r=4 g=8": (3_825_412_096, 30_876_392),
        "r=4 g=2": (3_899_170_816, 49_316_072),
        "r=8 g=8": (3_661_974_016, 25_028_392),
        "r=2 g=8": (4_190_150_656, 52_775_272),
        "ResNet-50": (4_089_184_256, 25_530_472),
    },
    3: {
        "c2 c3 c4 c5": (3_869_112_320, 74_464_424),
        "c2 c3 c4": (3_974_883_328, 66_976_424),
        "c3 c4 c5": (3_784_939_520, 48_359_528),
        "c3 c4": (3_890_710_528, 40_871_528),
        "c3": (4_154_482_688, 35_525_608),
        "c4": (3_825_412_096, 30_876_392),
        "none": (4_089_184_256, 25_530_472),
    },
    4: {
        "ResNet-50 224": (4_089_184_256, 25_530_472),
        "ResNet-101 224": (7_801_405_440, 44_496_488),
        "RepMLP-Res50 224": (3_890_710_528, 40_871_528),
        "ResNet-50 320": (8_343_142_400, 25_530_472),
        "ResNet-101 320": (15_919_104_000, 44_496_488),
        "RepMLP-Res50-g8/16 320": (8_057_225_216, 59_223_144),
        "RepMLP-Res50-g8/8 320": (8_108_425_216, 72_023_144),
        "RepMLP-Res50-g4/8 320": (8_354_185_216, 87_383_144),
        "NL-Res50 320": (9_182_003_200, 27_630_184),
        "GC-Res50 320": (8_351_981_568, 28_052_213),
        "EfficientNet-B1 240": (686_802_832, 7_763_160),
        "EfficientNet-B2 260": (993_561_872, 9_076_210),
        "EfficientNet-B3 300": (1_827_141_392, 12_189_584),
    },
    5: {
        "MobileFaceNet": (162_359_296, 986_688),
        "FaceResNet": (1_050_329_088, 40_353_664),
        "RepMLP-FaceRes": (1_139_982_336, 74_292_608),
    },
    6: {
        "RepMLP-Res50-g4/8": (342_696_856_256, 175_411_307),
        "ResNet-50": (350_004_969_152, 46_562_451),
    },
    7: {
        "original": (4_089_184_256, 25_530_472),
        "RepMLP Bottleneck": (3_890_710_528, 40_871_528),
        "RepMLP Light": (2_919_563_264, 57_868_264),
    },
}
BEFORE_CONVERSION = {"macs": 118_903_808, "params": 22_913_891}


def exact(number: int) -> Counts:
    counts = {row: {"macs": macs, "params": params} for row, (macs, params) in EXACT[number].items()}
    return counts | ({"A) before conversion": BEFORE_CONVERSION} if number == 1 else {})


@pytest.mark.parametrize(("number", "row"), [(number, row) for number, rows in EXACT.items() for row in rows])
def test_counts_are_exact(number: int, row: str) -> None:
    assert network_costs(TABLES[number][row]) == exact(number)[row]


def test_counts_of_table_1_before_conversion() -> None:
    assert training_costs(TABLES[1]["Pure MLP"]) == BEFORE_CONVERSION


def test_every_network_of_the_tables_is_counted_here() -> None:
    assert {n: list(rows) for n, rows in TABLES.items()} == {n: list(rows) for n, rows in EXACT.items()}


@pytest.mark.parametrize("number", TITLES)
def test_every_printed_cell_matches(number: int) -> None:
    rows = compare(number, exact(number)).set_index("row")
    assert set(rows.index) == set(exact(number))
    buildable = rows.drop("RepMLP-FaceRes", errors="ignore")
    assert buildable["match"].eq(True).all()
    assert len(rows) - len(buildable) == (number == 5)
    assert rows[["paper_params_m", "paper_accuracy"]].notna().all(axis=None)
    assert rows["paper_macs_m"].notna().all() == (number not in (2, 3))
    if number in BASELINES:
        assert rows["paper_speed"].notna().all()


@pytest.mark.parametrize("number", TITLES)
@pytest.mark.parametrize("cell", ["macs", "params"])
def test_a_wrong_count_does_not_match(number: int, cell: str) -> None:
    counts = exact(number)
    row = next(iter(counts))
    counts[row] = counts[row] | {cell: 2 * counts[row][cell]}
    rows = compare(number, counts).set_index("row")
    printed = cell == "params" or number not in (2, 3)
    assert rows["match"].eq(False).tolist() == [printed and name == row for name in rows.index]


def test_parameters_that_training_alone_counts_do_not_match() -> None:
    """Without the BN statistics, Table 1 A has 22,882,618."""
    counts = exact(1) | {"A) before conversion": {"macs": 118_903_808, "params": 22_882_618}}
    rows = compare(1, counts).set_index("row")
    assert rows.index[~rows["match"]].tolist() == ["A) before conversion"]


def test_the_row_that_cannot_be_rebuilt_says_why() -> None:
    rows = compare(5, exact(5)).set_index("row")
    row = rows.loc["RepMLP-FaceRes"]
    assert row["match"] == "not rebuildable"
    assert "FLOPs and parameters" in row["note"]
    assert not cut_as(int(row["macs"]), "406")
    assert not cut_as(int(row["params"]), "28.32")
    kept = 9 * (128**2 * 24**2 + 256**2 * 12**2 + 512**2 * 6**2 + 2 * 1024**2 * 3**2)
    assert f"{kept / 1e6:.1f}M" in row["note"]
    assert kept > 1e6 * row["paper_macs_m"]
    assert rows["note"].notna().tolist() == [False, False, True]
    assert "note" not in compare(7, exact(7))


def test_the_paper_cuts_digits_off() -> None:
    assert cut_as(65_885_184, "65.8")
    assert not cut_as(65_885_184, "65.9")
    assert cut_as(507_498, "0.50")
    assert not cut_as(511_000, "0.50")


def test_speeds_of_the_paper_are_compared_with_the_baseline() -> None:
    light = compare(7, exact(7)).set_index("row").loc["RepMLP Light"]
    assert light["paper_ratio"] == pytest.approx(1074 / 689, abs=5e-4)
    faces = compare(5, exact(5)).set_index("row")
    assert faces.loc["RepMLP-FaceRes", "paper_ratio"] == pytest.approx(5425 / 3811, abs=5e-4)


def test_measured_speeds_stand_beside_the_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "speeds.csv"
    file.write_text(
        "table,row,batch,images_per_s,ratio,ratio_low,ratio_high,device,dtype,torch\n"
        "7,RepMLP Light,4,9.5,1.2,1.1,1.3,some device,float32,2.0\n7,original,4,8,1,0.9,1.05,some device,float32,2.0\n"
    )
    monkeypatch.setattr(comparison, "MEASURED", str(file))
    rows = compare(7, exact(7)).set_index("row")
    assert rows.loc["RepMLP Light", ["ours", "ours_low", "ours_high"]].tolist() == [1.2, 1.1, 1.3]
    assert rows["ours"].isna().tolist() == [False, True, False]
    assert 'row "original", ours on some device, float32, batch 4, torch 2.0' in comparison.title(7)
    assert "ours" not in compare(6, exact(6))
    monkeypatch.setattr(comparison, "MEASURED", "absent.csv")
    assert "ours" not in compare(7, exact(7))
    assert "ours" not in comparison.title(7)


def paper(monkeypatch: pytest.MonkeyPatch, *arguments: str, counts: dict[int, Counts] | None = None) -> tuple[int, str]:
    """Run `analyze.py paper` on given counts; return its exit status and output."""
    given = {number: exact(number) for number in EXACT} | (counts or {})
    monkeypatch.setattr("search.measuring.costs.paper_costs", lambda number, say: given.get(number, {}))
    done = CliRunner().invoke(analyze.app, ["paper", *arguments])
    return done.exit_code, done.stdout


@pytest.mark.parametrize("style", ["table", "md", "latex"])
def test_all_tables_are_printed_with_their_titles(monkeypatch: pytest.MonkeyPatch, style: str) -> None:
    code, text = paper(monkeypatch, "--format", style)
    assert code == 0
    assert [text.count(f"Table {number}, {TITLES[number]}") for number in TITLES] == [1] * 7
    assert text.count("not rebuildable") == 1
    assert "175,411,307" in text


def test_all_tables_as_json_are_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = paper(monkeypatch, "--format", "json")
    tables = json.loads(text)
    assert code == 0
    assert list(tables) == list("1234567")
    _, alone = paper(monkeypatch, "--table", "6", "--format", "json")
    assert json.loads(alone) == tables["6"]
    assert tables["2"][0] | {"paper_macs_m": None, "match": True, "macs": 3_825_412_096} == tables["2"][0]


def test_all_tables_as_csv_name_the_table_first(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = paper(monkeypatch, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert code == 0
    assert list(rows[0])[:2] == ["table", "row"]
    assert [(int(r["table"]), r["row"], int(r["macs"])) for r in rows if r["table"] != "1"] == [
        (number, row, macs) for number in TITLES if number > 1 for row, (macs, _) in EXACT[number].items()
    ]


def test_a_table_that_does_not_match_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = exact(7) | {"original": {"macs": 4_089_184_256, "params": 25_557_032}}
    code, text = paper(monkeypatch, "--format", "csv", counts={7: wrong})
    assert code == 1
    assert text.count("False") == 1
    assert paper(monkeypatch, "--table", "5", counts={7: wrong})[0] == 0


@pytest.mark.parametrize("number", ["0", "9"])
def test_a_table_that_is_not_there_is_an_error(number: str) -> None:
    done = CliRunner().invoke(analyze.app, ["paper", "--table", number])
    assert done.exit_code == 2
    assert f"--table {number} is not there; use one of 1, 2, 3, 4, 5, 6, 7." in done.stderr
