"""
Check for words that are never right in this project: prints `file:line: word`, exits with 1.

Checks the package and the pages, with snake_case and CamelCase names split into words, and of
the tests their names.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = (
    *("told", "telling", "tells", "hears", "heard", "patience", "trouble", "anew", "whoever"),
    *("reckoned", "a look", "looks at", "looked at", "again is nothing", "in the mean"),
)
FILES = (
    "README.md",
    "docs/*.md",
    "docs/[!_]*/**/*.md",
    "docs/**/*.py",
    "ezvideo_async/**/*.py",
    "tests/**/*.py",
)
_BANNED = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TEST_NAME = re.compile(r"\s*(?:async )?def (test_\w+)")


def findings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and word for each banned word in a file; of tests, in their names."""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        text = line
        if path.parts[0] == "tests":
            match = _TEST_NAME.match(line)
            text = match[1] if match else ""
        words = _CAMEL_CASE.sub(" ", text).replace("_", " ")
        for match in _BANNED.finditer(words):
            yield number, match[1].lower()


def main() -> int:
    """Print the findings and their number in each folder."""
    counts: Counter[str] = Counter()
    for path in sorted(path for pattern in FILES for path in Path().glob(pattern)):
        for number, word in findings(path):
            print(f"{path}:{number}: {word}")
            counts["/".join(path.parts[:2]) if len(path.parts) > 2 else str(path)] += 1
    for folder, count in counts.most_common():
        print(f"{count:5} in {folder}")
    return int(counts.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
