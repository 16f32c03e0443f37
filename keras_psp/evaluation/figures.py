"""Formats of measures: percentages, tables, CSV and JSON."""

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import rich.console
import rich.table
import rich.text

from keras_psp.files import csv_text, written_aside


def percent(value: float, digits: int = 1, *, undefined: str = "-") -> str:
    """A fraction as a percentage; `undefined` for NaN."""
    return undefined if math.isnan(value) else f"{100 * value:.{digits}f} %"


def percent_table(
    title: str, columns: Sequence[str], *sections: Iterable[Sequence]
) -> rich.table.Table:
    """A table; in each section, rows are a name followed by fractions from 0 to 1, or NaN."""
    table = rich.table.Table(title=title, title_justify="left")
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for rows in sections:
        for name, *values in rows:
            # Text prints markup in names literally.
            table.add_row(rich.text.Text(name), *(percent(value) for value in values))
        table.add_section()
    return table


def show(
    table: rich.table.Table, means: Mapping[str, float], console: rich.console.Console | None
) -> None:
    """Prints a table and a line of means, to stdout unless a console is given."""
    console = console or rich.console.Console(highlight=False)
    console.print(table)
    line = "   ".join(f"{name} {percent(value, 2)}" for name, value in means.items())
    console.print(line, soft_wrap=True)


def write_csv(
    path: str | os.PathLike, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Writes a table atomically; NaN becomes an empty cell, and formulas are escaped as text."""
    with written_aside(path) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in [columns, *rows]:
            writer.writerow([csv_text(v) if isinstance(v, str) else _or_none(v) for v in row])


def write_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Writes nested dicts and lists atomically; a NaN becomes null."""
    with written_aside(path) as draft:
        text = json.dumps(_or_none(content), indent=2, allow_nan=False, ensure_ascii=False)
        draft.write_text(text + "\n", encoding="utf-8")


def _or_none(value):
    if isinstance(value, Mapping):
        return {key: _or_none(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_or_none(inner) for inner in value]
    if isinstance(value, float):  # including np.float64, which becomes a plain float
        return None if math.isnan(value) else float(value)
    return value
