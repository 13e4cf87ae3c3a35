"""The screen of `xpod top`, and its keys.

Knows: Textual, and where everything goes. Does not know: how a pod is asked (see `feed`), or what figures mean.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, Footer, RichLog, Static

from xpod.cli.errors import CliError
from xpod.cli.kill import Signal
from xpod.cli.top import figures, shown
from xpod.cli.top.samples import Moment

Read = Callable[[], Moment]
Hit = Callable[[str, Signal], str]
"""Sends a signal to a member; what was done, in words. Raises CliError."""


class Top(App[None]):
    """Reads every `interval` seconds."""

    TITLE = "xpod top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head, #figures { height: auto; padding: 0 1; }
    #figures { margin-bottom: 1; }
    #middle { height: 3fr; }
    #members { width: 3fr; }
    #heat { width: 2fr; padding: 0 1; border-left: solid $panel; }
    #events { height: 1fr; min-height: 4; border-top: solid $panel; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "hit('KILL')", "kill"),
        Binding("s", "hit('STOP')", "stop"),
        Binding("c", "hit('CONT')", "continue"),
        Binding("t", "hit('TERM')", "drain"),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, read: Read, hit: Hit, interval: float) -> None:
        super().__init__()
        self._read, self._hit, self._interval = read, hit, interval
        self._before: Moment | None = None

    def compose(self) -> ComposeResult:
        """As Textual asks for widgets."""
        yield Static("asking the pod", id="head")
        yield Static(id="figures")
        with Horizontal(id="middle"):
            yield DataTable(id="members", cursor_type="row", zebra_stripes=True)
            with VerticalScroll(id="heat"):
                yield Static("expert load, layer by expert", classes="dim")
                yield Static(id="map")
        yield RichLog(id="events", wrap=True, max_lines=500)
        yield Footer()

    def on_mount(self) -> None:
        """As Textual tells that there is a screen."""
        table = self._table
        for column in shown.COLUMNS:
            table.add_column(column, key=column)
        table.focus()
        self.look()
        self.set_interval(self._interval, self.look)

    @property
    def _table(self) -> DataTable[object]:
        return self.query_one("#members", DataTable)

    @work(thread=True, exclusive=True, group="look")
    def look(self) -> None:
        """Ask the pod, beside the screen, and show the answer."""
        try:
            moment = self._read()
        except CliError as error:
            self.call_from_thread(self._tell, error.message, "red")
        else:
            self.call_from_thread(self._show, moment)

    def action_hit(self, signal: Signal) -> None:
        """Send a signal to the member under the cursor."""
        table = self._table
        if not table.row_count:
            return
        member = str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)
        try:
            self._tell(self._hit(member, signal), "bold")
        except CliError as error:
            self._tell(error.message, "red")

    def _show(self, moment: Moment) -> None:
        before, self._before = self._before or moment, moment
        self.query_one("#head", Static).update(shown.headline(moment.status))
        self.query_one("#figures", Static).update(shown.summary_line(figures.summary(before, moment)))
        self._show_members(before, moment)
        experts = max((len(layer) for layer in moment.status["placement"]["experts"].values()), default=0)
        self.query_one("#map", Static).update(shown.heat_map(figures.heat(before, moment), experts))
        for event in figures.events(before, moment):
            self._tell(event)

    def _show_members(self, before: Moment, moment: Moment) -> None:
        table = self._table
        names = {str(member["id"]) for member in moment.members}
        for gone in [key for key in table.rows if key.value not in names]:
            table.remove_row(gone)
        there = {key.value for key in table.rows}
        for member in moment.members:
            cells = shown.row(member, figures.load_of(before, moment, member["id"]))
            if member["id"] not in there:
                table.add_row(*cells, key=member["id"])
                continue
            for column, cell in zip(shown.COLUMNS, cells, strict=True):
                table.update_cell(member["id"], column, cell, update_width=True)

    def _tell(self, text: str, style: str = "") -> None:
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        self.query_one("#events", RichLog).write(Text(f"{now}  {text}", style))
