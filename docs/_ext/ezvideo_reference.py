"""
Sphinx extension for the reference: links, signatures and tables from the code.

- Names link to their public module, whatever private module an annotation names.
- Values made by attrs show their fields and defaults, not the code that attrs wrote.
- Data defined in a private module shows the text below its assignment.
- The sections ``Shape:`` and ``Source:`` of a docstring are paragraphs, with the source linked.
- ``{status-values}``, ``{url-places}`` and ``{field-aliases}`` are tables of ``dialects.py``.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import docutils.nodes
import sphinx.util.nodes
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

import ezvideo_async
from ezvideo_async import errors, instrumentation, testing
from ezvideo_async._protocol import dialects

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PUBLIC = {
    **{name: f"ezvideo_async.{name}" for name in ezvideo_async.__all__},
    **{name: f"ezvideo_async.errors.{name}" for name in errors.__all__},
    **{name: f"ezvideo_async.instrumentation.{name}" for name in instrumentation.__all__},
    **{name: f"ezvideo_async.testing.{name}" for name in testing.__all__},
}
"""Public name to the name under which the reference documents it."""

DATA_MODULES = {
    "TelemetryEvent": "_domain.telemetry",
    **ezvideo_async._MODULE_OF,  # noqa: SLF001 -- the table of lazy exports
}
"""Public name to the private module that has its description."""

API_PARTS = {
    "task status": "api-task-status",
    "response parameters": "api-response",
    "note": "api-notes",
}
"""Part of the API document to its label in the reference."""

_PROSE_SECTION = re.compile(r"(?P<name>Shape|Source):")
_TYPE = ":type: "
_CONSTANT = re.compile(r"(?P<name>[A-Z_]+): Final = \(")
_ROW = re.compile(r'(?P<row>"\w+"(?:, "\w+")*),?\)*,?(?: +# (?P<source>.+))?')


# --- names ----------------------------------------------------------------------------------------


def find_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: docutils.nodes.Element
) -> docutils.nodes.reference | None:
    """Resolve ``_domain.task.VideoTask``, or ``VideoTask``, to ``ezvideo_async.VideoTask``."""
    target = node.get("reftarget", "")
    is_ours = "." not in target or target.startswith("ezvideo_async.")
    name = PUBLIC.get(target.rpartition(".")[2])
    if node.get("refdomain") != "py" or not is_ours or name is None:
        return None
    found = env.domains["py"].objects.get(name)
    if found is None:
        return None
    return sphinx.util.nodes.make_refnode(
        app.builder, node["refdoc"], found.docname, found.node_id, contnode, name
    )


def add_text_below_data(
    _app: Sphinx, what: str, name: str, _item: object, _options: object, lines: list[str]
) -> None:
    """Document data of another module by the text below its assignment."""
    short = name.rpartition(".")[2]
    module = DATA_MODULES.get(short)
    if what == "data" and module is not None:
        analyzer = ModuleAnalyzer.for_module(f"ezvideo_async.{module}")
        lines[:] = analyzer.find_attr_docs()["", short]


def join_at_colon(
    _app: Sphinx, what: str, _name: str, _item: object, _options: object, lines: list[str]
) -> None:
    """Join what napoleon has split as a type and its description: ``Source of the key: a text``."""
    if what in {"attribute", "data", "property"}:
        for place, line in enumerate(lines):
            if line.startswith(_TYPE):
                del lines[place]
                lines[0] = f"{line.removeprefix(_TYPE)}: {lines[0]}"


def write_sections_as_prose(
    _app: Sphinx, _what: str, _name: str, _item: object, _options: object, lines: list[str]
) -> None:
    """Replace the sections ``Shape:`` and ``Source:`` by paragraphs."""
    section = ""
    for place, line in enumerate(lines):
        if match := _PROSE_SECTION.fullmatch(line):
            section, lines[place] = match["name"], ""
        elif section and line.startswith(" "):
            text = line.strip()
            is_first = not lines[place - 1]
            lines[place] = _link_source(text, is_first) if section == "Source" else text
        elif line:
            section = ""


def _link_source(text: str, is_first: bool) -> str:  # noqa: FBT001 -- called from one place
    label = next((label for part, label in API_PARTS.items() if part in text), None)
    if label is not None:
        text = text.replace("API document", f":ref:`API document <{label}>`")
    return f"Source: {text}" if is_first else text


def show_fields_in_signature(
    _app: Sphinx, what: str, _name: str, thing: Any, *_others: object
) -> tuple[str, str | None] | None:
    """Show a class made by attrs with its fields and their defaults as written."""
    if what == "exception" or getattr(thing, "_is_protocol", False):
        return "", None  # not called by users
    if what != "class" or not attrs.has(thing):
        return None
    fields = [field for field in attrs.fields(thing) if not field.name.startswith("_")]
    shown = [f"{field.name}: {_annotation(field)}{_default(field)}" for field in fields]
    return f"({', '.join(['*'] * fields[0].kw_only + shown)})", None


def show_public_bases(
    _app: Sphinx, _name: str, _thing: type, _options: object, bases: list[Any]
) -> None:
    """Replace a private base by its public bases."""
    for place, base in enumerate(bases):
        if getattr(base, "__name__", "").startswith("_"):
            bases[place : place + 1] = base.__bases__


def _annotation(field: attrs.Attribute[Any]) -> str:
    return field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)


def _default(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return ""
    made = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default
    return f" = {made!r}"


# --- tables ---------------------------------------------------------------------------------------


class Table(SphinxDirective):
    """A table of text; cells in backticks are literals."""

    heads: ClassVar[Sequence[str]] = ()

    def rows(self) -> Iterable[Sequence[str]]:
        raise NotImplementedError

    def run(self) -> list[docutils.nodes.Node]:
        table = docutils.nodes.table()
        group = docutils.nodes.tgroup(cols=len(self.heads))
        group += [docutils.nodes.colspec(colwidth=1) for _ in self.heads]
        head, body = docutils.nodes.thead(), docutils.nodes.tbody()
        head += self.row(self.heads)
        body += [self.row(cells) for cells in self.rows()]
        group += [head, body]
        table += group
        return [table]

    def row(self, cells: Sequence[str]) -> docutils.nodes.row:
        row = docutils.nodes.row()
        for cell in cells:
            entry = docutils.nodes.entry()
            paragraph = docutils.nodes.paragraph()
            for place, part in enumerate(cell.split("`")):
                kind = docutils.nodes.literal if place % 2 else docutils.nodes.Text
                if part:
                    paragraph += kind(part, part) if place % 2 else kind(part)
            entry += paragraph
            row += entry
        return row


class StatusValues(Table):
    """The known status values, what each is read as, and the servers that send it."""

    heads = ("value", "read as", "error code, if none is sent", "source")

    def rows(self) -> Iterable[Sequence[str]]:
        sources = dict(sources_in("_VALUES"))
        for value, status in dialects.STATUS_VALUES.items():
            code = dialects.CODES_OF_STATUS_VALUES.get(value)
            yield f"`{value}`", f"`{status}`", f"`{code}`" if code else "", sources[value]


class UrlPlaces(Table):
    """The places of the video's url, the preferred one first."""

    heads = ("", "place", "source")

    def rows(self) -> Iterable[Sequence[str]]:
        sources = dict(sources_in("URL_PLACES"))
        later = dict(sources_in("URL_FIELDS_WHEN_COMPLETED"))
        places = [".".join(place) for place in dialects.URL_PLACES]
        for number, place in enumerate([*places, *dialects.URL_FIELDS_WHEN_COMPLETED], start=1):
            only = "" if number <= len(places) else " of a completed task, if it is an http url"
            yield str(number), f"`{place}`{only}", {**later, **sources}[place]


class FieldAliases(Table):
    """The names of each field, the preferred one first."""

    heads = ("field", "names")

    def rows(self) -> Iterable[Sequence[str]]:
        names: dict[str, Sequence[str]] = {
            "`id`": (*dialects.ID_FIELDS, dialects.TRACE_ID_FIELD),
            "`status`": dialects.STATUS_FIELDS,
            "`created_at`": dialects.CREATED_AT_FIELDS,
            "`completed_at`": dialects.COMPLETED_AT_FIELDS,
            "`expires_at`": dialects.EXPIRES_AT_FIELDS,
            "`seconds`": [".".join(place) for place in dialects.SECONDS_PLACES],
            "`error.message`": dialects.ERROR_MESSAGE_FIELDS,
            "`error.message` of a failed task": dialects.FAILURE_REASON_FIELDS,
        }
        for field, aliases in names.items():
            yield field, ", ".join(f"`{alias}`" for alias in aliases)


def sources_in(ending: str) -> Iterable[tuple[str, str]]:
    """
    Yield the sources of rows, from the comments beside the rows of some constants.

    Shape:
        (row, source): the texts of a row joined by dots; "" if there is no comment.
    """
    name = ""
    for line in inspect.getsource(dialects).splitlines():
        begins = _CONSTANT.match(line)
        name = begins["name"] if begins else "" if line.startswith(")") else name
        found = _ROW.search(line)
        if found and name.endswith(ending):
            yield ".".join(re.findall(r'"(\w+)"', found["row"])), found["source"] or ""


def link_to_front_page(_app: Sphinx, _docname: str, source: list[str]) -> None:
    """Link from the Chinese README to the front page, not to a file outside the docs."""
    source[0] = source[0].replace("](../README.md)", "](index.md)")


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("missing-reference", find_public_name)
    app.connect("autodoc-process-docstring", add_text_below_data, priority=400)
    app.connect("autodoc-process-docstring", write_sections_as_prose, priority=450)
    app.connect("autodoc-process-docstring", join_at_colon, priority=600)
    app.connect("autodoc-process-signature", show_fields_in_signature)
    app.connect("autodoc-process-bases", show_public_bases)
    app.connect("source-read", link_to_front_page)
    app.add_directive("status-values", StatusValues)
    app.add_directive("url-places", UrlPlaces)
    app.add_directive("field-aliases", FieldAliases)
    return {"parallel_read_safe": True}
