"""Tables in the formats that people paste: terminal, CSV, Markdown, LaTeX, JSON, HTML."""

import html
import json
from collections.abc import Mapping
from enum import StrEnum

import pandas as pd
from rich.console import Console
from rich.table import Table


class Format(StrEnum):
    """How a table is written."""

    table = "table"
    csv = "csv"
    md = "md"
    latex = "latex"
    json = "json"
    html = "html"


def write(frame: pd.DataFrame, style: Format, title: str = "") -> str:
    """Return `frame`, without its index, as text. Raw values for csv and json; readable ones for the others."""
    if style is Format.csv:
        return frame.to_csv(index=False).rstrip("\n")
    if style is Format.json:
        return frame.to_json(orient="records", indent=2, double_precision=10)
    shown = frame.map(readable)
    if style is Format.md:
        return shown.to_markdown(index=False, disable_numparse=True)
    if style is Format.html:
        return shown.to_html(index=False, border=0, na_rep="")
    if style is Format.latex:
        caption = title.replace("%", r"\%").replace("_", r"\_") or None
        return shown.style.format(escape="latex").hide(axis="index").to_latex(hrules=True, caption=caption).rstrip("\n")
    return terminal(shown, title)


def terminal(shown: pd.DataFrame, title: str) -> str:
    """Draw a table as wide as its content."""
    table = Table(title=title or None, title_justify="left")
    for name in shown.columns:
        table.add_column(str(name), overflow="fold", justify="left" if name in ("row", "network", "match") else "right")
    for row in shown.itertuples(index=False):
        table.add_row(*map(str, row))
    console = Console(width=200, force_terminal=False)
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
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def write_with_notes(frame: pd.DataFrame, style: Format, title: str, notes: list[str]) -> str:
    """Return a table under its title, with sentences below it; LaTeX has the title alone, as its caption."""
    text = write(frame, style, title)
    if style is Format.md:
        return "\n\n".join([f"**{title}**", text, *notes])
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
