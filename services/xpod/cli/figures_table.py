"""The look of all tables of figures: no frame, names on the left, figures under one another's last digits."""

from __future__ import annotations

from rich.table import Table


def figures_table(*header: str, names: int = 1) -> Table:
    """An empty table whose first `names` columns are words."""
    table = Table(*header, box=None, pad_edge=False)
    for column in table.columns[names:]:
        column.justify = "right"
    return table
