"""
Text from a server, made safe for a terminal.

No await, no clock, no randomness, no I/O.
"""

from __future__ import annotations

import unicodedata

_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)
"""Letters and marks that show nothing, though their category says they would."""


def clean(text: str) -> str:
    r"""
    Show what a terminal would obey or hide as ``\x1b``, ``\u202e`` and the like.

    That is: C0, C1 and DEL, bidi and other format characters, line separators, lone
    surrogates, private and unassigned code points, and letters that show nothing.  All else
    passes: CJK, emoji, marks, blanks of any width.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    is_seen = character.isprintable() or unicodedata.category(character) == "Zs"
    if is_seen and character not in _INVISIBLE:
        return character
    # What is printable to Python, ascii() escapes too, being no ASCII.
    return ascii(character)[1:-1]
