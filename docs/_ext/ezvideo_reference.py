"""
What the reference takes from the code itself, so that nothing is typed twice.

- Names lead to their one public home, whatever private module an annotation names.
- Values made by attrs show their fields and defaults, not the code that attrs wrote.
- Data that the package exports lazily shows the text below its assignment.
- ``{status-words}``, ``{url-places}`` and ``{field-aliases}`` are tables made of ``_dialects``.
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
"""Public name to where the reference documents it."""

_CONSTANT = re.compile(r"(?P<name>[A-Z_]+): Final = \(")
_ROW = re.compile(r'(?P<row>"\w+"(?:, "\w+")*),?\)*,?(?: +# (?P<source>.+))?')


# --- names ----------------------------------------------------------------------------------------


def find_public_home(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: docutils.nodes.Element
) -> docutils.nodes.reference | None:
    """Resolve ``_models.VideoTask``, or a bare ``VideoTask``, to ``ezvideo_async.VideoTask``."""
    target = node.get("reftarget", "")
    is_ours = "." not in target or target.startswith("ezvideo_async.")
    home = PUBLIC.get(target.rpartition(".")[2])
    if node.get("refdomain") != "py" or not is_ours or home is None:
        return None
    found = env.domains["py"].objects.get(home)
    if found is None:
        return None
    return sphinx.util.nodes.make_refnode(
        app.builder, node["refdoc"], found.docname, found.node_id, contnode, home
    )


def take_text_below_data(
    _app: Sphinx, what: str, name: str, _item: object, _options: object, lines: list[str]
) -> None:
    """Give lazily exported data the text that stands below its assignment."""
    short = name.rpartition(".")[2]
    home = ezvideo_async._MODULE_OF.get(short)  # noqa: SLF001 -- the lazy exports' own table
    if what == "data" and home is not None:
        analyzer = ModuleAnalyzer.for_module(f"ezvideo_async.{home}")
        lines[:] = analyzer.find_attr_docs()["", short]


def sign_like_a_value(
    _app: Sphinx, what: str, _name: str, thing: Any, *_others: object
) -> tuple[str, str | None] | None:
    """Give a class made by attrs a signature with its defaults as they are written."""
    if what == "exception" or getattr(thing, "_is_protocol", False):
        return "", None  # nobody calls it
    if what != "class" or not attrs.has(thing):
        return None
    fields = [field for field in attrs.fields(thing) if not field.name.startswith("_")]
    shown = [f"{field.name}: {_annotation(field)}{_default(field)}" for field in fields]
    return f"({', '.join(['*'] * fields[0].kw_only + shown)})", None


def show_public_bases(
    _app: Sphinx, _name: str, _thing: type, _options: object, bases: list[Any]
) -> None:
    """Put the public bases of a private base in its place."""
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


class StatusWords(Table):
    """Every status word that is known, what it is read as, and who says it."""

    heads = ("on the wire", "read as", "code, if none is sent", "seen at")

    def rows(self) -> Iterable[Sequence[str]]:
        sources = dict(sources_in("_VALUES"))
        for word, status in dialects.STATUS_VALUES.items():
            code = dialects.CODES_OF_STATUS_VALUES.get(word)
            yield f"`{word}`", f"`{status}`", f"`{code}`" if code else "", sources[word]


class UrlPlaces(Table):
    """Where the url of the video is looked for, the preferred place first."""

    heads = ("", "place", "seen at")

    def rows(self) -> Iterable[Sequence[str]]:
        sources = dict(sources_in("URL_PLACES"))
        later = dict(sources_in("URL_FIELDS_WHEN_COMPLETED"))
        places = [".".join(place) for place in dialects.URL_PLACES]
        for number, place in enumerate([*places, *dialects.URL_FIELDS_WHEN_COMPLETED], start=1):
            only = "" if number <= len(places) else " of a completed task, if it is a web address"
            yield str(number), f"`{place}`{only}", {**later, **sources}[place]


class FieldAliases(Table):
    """The names under which a field is looked for, the preferred name first."""

    heads = ("field", "looked for under")

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
    Tell who uses a row, as the comments beside the rows of some constants say.

    Shape:
        (row, source): the texts of a row joined by points; "" when no comment is there.
    """
    name = ""
    for line in inspect.getsource(dialects).splitlines():
        begins = _CONSTANT.match(line)
        name = begins["name"] if begins else "" if line.startswith(")") else name
        found = _ROW.search(line)
        if found and name.endswith(ending):
            yield ".".join(re.findall(r'"(\w+)"', found["row"])), found["source"] or ""


def stay_in_the_book(_app: Sphinx, _docname: str, source: list[str]) -> None:
    """Lead from the Chinese twin of the README to the first page, not to a file beside the book."""
    source[0] = source[0].replace("](../README.md)", "](index.md)")


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("missing-reference", find_public_home)
    app.connect("autodoc-process-docstring", take_text_below_data, priority=400)
    app.connect("autodoc-process-signature", sign_like_a_value)
    app.connect("autodoc-process-bases", show_public_bases)
    app.connect("source-read", stay_in_the_book)
    app.add_directive("status-words", StatusWords)
    app.add_directive("url-places", UrlPlaces)
    app.add_directive("field-aliases", FieldAliases)
    return {"parallel_read_safe": True}
