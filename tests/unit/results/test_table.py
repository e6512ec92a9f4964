"""Tables in every format, of names that a format would take for its own signs."""

import csv
import io
import json
import re
import string

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.table import Format, in_latex, write, write_with_notes

NAMES = [
    "a | b",
    "a [/b] c",
    "[red]x",
    "=1+1",
    "@cmd",
    "-x",
    "\x1b[31mred",
    "<b>x</b>",
    "50 % & $x_1$ \\ {~^}#",
    ":smile:",
]


def table(*names: str) -> pd.DataFrame:
    return pd.DataFrame({"variant": list(names), "n": range(len(names)), "difference": [-1.5] * len(names)})


@pytest.mark.parametrize("style", list(Format))
def test_names_change_no_table(style: Format) -> None:
    text = write_with_notes(table(*NAMES), style, "Table of [/b] <i> & |", ["see [/b]"])
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text)
    if style is Format.md:
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}
    if style in (Format.md, Format.html):
        assert "<b>" not in text
        assert "<i>" not in text
    if style is Format.table:
        assert all(name in text for name in ("a [/b] c", "[red]x", ":smile:", "<b>x</b>"))


def test_json_has_names_as_they_are() -> None:
    assert [row["variant"] for row in json.loads(write(table(*NAMES), Format.json))] == NAMES


def test_a_spreadsheet_calculates_nothing() -> None:
    rows = list(csv.reader(io.StringIO(write(table(*NAMES), Format.csv))))[1:]
    assert not [row for row in rows if row[0][0] in "=+-@"]
    assert {row[2] for row in rows} == {"-1.5"}


@given(st.text(string.printable, min_size=1))
def test_latex_has_no_open_sign(text: str) -> None:
    bare = in_latex(text)
    for word in (
        r"\textbackslash{}",
        r"\textasciitilde{}",
        r"\textasciicircum{}",
        *(f"\\{sign}" for sign in "&%$#_{}"),
    ):
        bare = bare.replace(word, "")
    assert not set(bare) & set("&%$#_{}~^\\")
