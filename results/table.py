"""Tables in the formats that people paste: terminal, CSV, Markdown, LaTeX, JSON, HTML."""

import html
import json
import re
from collections.abc import Mapping
from enum import StrEnum

import pandas as pd
from rich.console import Console
from rich.table import Table

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


class Format(StrEnum):
    """How a table is written."""

    table = "table"
    csv = "csv"
    md = "md"
    latex = "latex"
    json = "json"
    html = "html"


def write(frame: pd.DataFrame, style: Format, title: str = "") -> str:
    r"""Return `frame`, without its index, as text. Raw values for csv and json; readable ones for the others.

    Names are a user's own, so what a format would take for its own signs is escaped, and control characters are left
    out but in JSON, which writes them as \u001b; a text that a spreadsheet would calculate begins with an apostrophe.
    """
    if style is Format.csv:
        return frame.map(uncalculated).to_csv(index=False).rstrip("\n")
    if style is Format.json:
        return frame.to_json(orient="records", indent=2, double_precision=10)
    shown = frame.map(readable)
    if style is Format.md:
        return shown.map(in_markdown).rename(columns=in_markdown).to_markdown(index=False, disable_numparse=True)
    if style is Format.html:
        return shown.to_html(index=False, border=0, na_rep="")
    if style is Format.latex:
        caption = in_latex(title) or None
        shown.columns = [in_latex(str(name)) for name in shown.columns]
        return shown.style.format(escape="latex").hide(axis="index").to_latex(hrules=True, caption=caption).rstrip("\n")
    return terminal(shown, title)


def terminal(shown: pd.DataFrame, title: str) -> str:
    """Draw a table as wide as its content."""
    table = Table(title=title or None, title_justify="left")
    for name in shown.columns:
        table.add_column(str(name), overflow="fold", justify="left" if name in ("row", "network", "match") else "right")
    for row in shown.itertuples(index=False):
        table.add_row(*map(str, row))
    console = Console(width=200, force_terminal=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


def readable(value: object) -> str:
    """Write integers with separators, floats to two places, and nothing for what is missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else CONTROL.sub("", str(value))


def uncalculated(value: object) -> object:
    """Return what a spreadsheet shows as it is, and does not calculate."""
    if not isinstance(value, str):
        return value
    text = CONTROL.sub("", value)
    return f"'{text}" if text[:1] in tuple("=+-@") else text


def in_markdown(value: str) -> str:
    """Escape what Markdown would take for a cell's end, a line's, or HTML."""
    return html.escape(" ".join(str(value).split("\n")), quote=False).replace("|", "\\|")


def in_latex(text: str) -> str:
    """Escape LaTeX's special characters."""
    return text.translate(LATEX)


def write_with_notes(frame: pd.DataFrame, style: Format, title: str, notes: list[str]) -> str:
    """Return a table under its title, with sentences below it; LaTeX has the title alone, as its caption."""
    text = write(frame, style, title)
    if style is Format.md:
        return "\n\n".join([f"**{in_markdown(title)}**", text, *map(in_markdown, notes)])
    if style is Format.html:
        paragraphs = [f"<p>{html.escape(part)}</p>" for part in (title, *notes)]
        return "\n".join([paragraphs[0], text, *paragraphs[1:]])
    return "\n".join([text, *notes]) if style is Format.table else text


def write_all(tables: Mapping[str, pd.DataFrame], style: Format) -> str:
    """Return tables by title as one text: one below the other, or as one JSON object."""
    if len(tables) == 1:
        ((title, frame),) = tables.items()
        return write_with_notes(frame, style, title, [])
    if style is Format.json:
        return json.dumps({title: json.loads(write(frame, style)) for title, frame in tables.items()}, indent=2)
    if style is Format.csv:
        return "\n\n".join(write(frame, style) for frame in tables.values())
    return "\n\n".join(write_with_notes(frame, style, title, []) for title, frame in tables.items())
