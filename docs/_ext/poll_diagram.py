"""
Directive ``{poll-diagram}``: the way of one poll through the modules, as inline SVG.

Lines and texts have the colour of the page's text, so the diagram is readable in light and dark
mode.  A module that does not exist fails the build.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import docutils.nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PACKAGE = Path(__file__).parents[2] / "ezvideo_async"
BOX_WIDTH, BOX_HEIGHT, GAP = 236, 112, 32
LINE_HEIGHT, PADDING = 18, 12
TOP, BETWEEN_ROWS = 78, 66
WIDTH = 3 * BOX_WIDTH + 2 * GAP
ROWS = (TOP, TOP + BOX_HEIGHT + BETWEEN_ROWS)
HEIGHT = ROWS[1] + BOX_HEIGHT + 78


class Step(NamedTuple):
    """One box: its place in the grid, what happens, and the modules that do it."""

    column: int
    row: int
    title: str
    text: str
    modules: tuple[str, ...]
    is_sans_io: bool = True

    @property
    def x(self) -> int:
        return self.column * (BOX_WIDTH + GAP)

    @property
    def y(self) -> int:
        return ROWS[self.row]


ENGINE = ("_engine/dispatcher.py", "_engine/poller.py", "_engine/requester.py")
STEPS = (
    Step(0, 0, "1. Due", "Which tasks are due?",
         ("_scheduling/scheduler.py", "_scheduling/due_queue.py")),
    Step(1, 0, "2. Admit", "May a request be sent now?",
         ("_limits/rate_limiter.py", "_limits/circuit_breaker.py")),
    Step(2, 0, "3. Send", "Send the request with the API key",
         ("_transport/transport.py", "_transport/connection_pool.py"), is_sans_io=False),
    Step(2, 1, "4. Decode", "Is it a task or an error?",
         ("_protocol/responses.py", "_protocol/task_decoder.py")),
    Step(1, 1, "5. Compare", "What changed? When to poll again?",
         ("_scheduling/tracked_task.py", "_scheduling/pacing.py")),
    Step(0, 1, "6. Deliver", "Put the event into each mailbox",
         ("_delivery/broadcaster.py", "_delivery/mailbox.py"), is_sans_io=False),
)  # fmt: skip
DESCRIPTION = (
    "Diagram of one poll: the scheduler finds due tasks, the rate limiter admits a request, the "
    "transport sends it, the protocol package decodes the response, the tracked task is compared "
    "with it and scheduled again, and an event is delivered to the readers."
)


class PollDiagram(SphinxDirective):
    """The diagram; it takes no content."""

    def run(self) -> list[docutils.nodes.Node]:
        modules = [*ENGINE, *(module for step in STEPS for module in step.modules)]
        if missing := [module for module in modules if not (PACKAGE / module).exists()]:
            raise ExtensionError(f"the poll diagram names modules that do not exist: {missing}")
        return [docutils.nodes.raw("", svg(), format="html")]


def svg() -> str:
    """Return the whole diagram."""
    engine_text = "  ".join(ENGINE)
    right, middle = WIDTH - BOX_WIDTH / 2, BOX_WIDTH + GAP + BOX_WIDTH / 2
    between = ROWS[0] + BOX_HEIGHT + BETWEEN_ROWS / 2
    below = ROWS[1] + BOX_HEIGHT
    parts = [
        box(0, 0, WIDTH, 50, is_sans_io=False),
        text(PADDING, 20, "Engine: one timer, and a worker per request in flight", bold=True),
        text(PADDING, 39, engine_text, code=True),
        *(part for step in STEPS for part in drawn(step)),
        arrow((BOX_WIDTH, ROWS[0] + 30), (BOX_WIDTH + GAP, ROWS[0] + 30)),
        arrow((2 * BOX_WIDTH + GAP, ROWS[0] + 30), (2 * (BOX_WIDTH + GAP), ROWS[0] + 30)),
        arrow((right, ROWS[0] + BOX_HEIGHT), (right, ROWS[1])),
        text(right + 10, between + 5, "response"),
        arrow((2 * (BOX_WIDTH + GAP), ROWS[1] + 30), (2 * BOX_WIDTH + GAP, ROWS[1] + 30)),
        arrow((BOX_WIDTH + GAP, ROWS[1] + 30), (BOX_WIDTH, ROWS[1] + 30)),
        arrow((middle, ROWS[1]), (middle, between), (BOX_WIDTH / 2, between),
              (BOX_WIDTH / 2, ROWS[0] + BOX_HEIGHT)),
        text(BOX_WIDTH / 2 + 10, between - 7, "next due time"),
        arrow((BOX_WIDTH / 2, below), (BOX_WIDTH / 2, below + 34)),
        text(BOX_WIDTH / 2 + 10, below + 22, "_delivery/subscription.py", code=True),
        text(BOX_WIDTH / 2, below + 54, "async for event in watcher", code=True, anchor="middle"),
        box(BOX_WIDTH + GAP, below + 40, 16, 16, is_sans_io=True),
        text(BOX_WIDTH + GAP + 24, below + 53, "sans-I/O"),
        box(BOX_WIDTH + GAP + 110, below + 40, 16, 16, is_sans_io=False),
        text(BOX_WIDTH + GAP + 134, below + 53, "asyncio"),
    ]  # fmt: skip
    return (
        f'<svg class="poll-diagram" viewBox="-2 -2 {WIDTH + 4} {HEIGHT}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg" style="width: 100%; height: auto" fill="none" '
        f'stroke="currentColor" font-size="13"><title>{escape(DESCRIPTION)}</title>'
        '<defs><marker id="poll-arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="currentColor" '
        f'stroke="none"/></marker></defs>{"".join(parts)}</svg>'
    )


def drawn(step: Step) -> list[str]:
    """Return the parts of one box."""
    x, y = step.x + PADDING, step.y + PADDING + 10
    return [
        box(step.x, step.y, BOX_WIDTH, BOX_HEIGHT, is_sans_io=step.is_sans_io),
        text(x, y, step.title, bold=True),
        text(x, y + LINE_HEIGHT + 2, step.text),
        *(text(x, y + (number + 2) * LINE_HEIGHT + 10, module, code=True)
          for number, module in enumerate(step.modules)),
    ]  # fmt: skip


def box(x: float, y: float, width: float, height: float, *, is_sans_io: bool) -> str:
    """Return a box: filled if it is sans-I/O, else with a dashed border."""
    look = 'fill="currentColor" fill-opacity="0.09"' if is_sans_io else 'stroke-dasharray="5 3"'
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" {look}/>'


def text(
    x: float, y: float, words: str, *, bold: bool = False, code: bool = False, anchor: str = "start"
) -> str:
    """Return one line of text."""
    font = ' font-family="monospace" font-size="12"' if code else ""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" fill="currentColor" stroke="none" text-anchor="{anchor}" '
        f'xml:space="preserve"{font}{weight}>{escape(words)}</text>'
    )


def arrow(*points: tuple[float, float]) -> str:
    """Return a line through some points with a head at its end."""
    places = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{places}" stroke-width="1.5" marker-end="url(#poll-arrow)"/>'


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("poll-diagram", PollDiagram)
    return {"parallel_read_safe": True}
