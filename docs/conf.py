"""Sphinx configuration; `python3 noxfile.py -s docs` builds the pages."""

from __future__ import annotations

import sys
from pathlib import Path

from ezvideo_async._version import __version__

# --- the project ------------------------------------------------------------------------------

project = "ezvideo_async"
author = "The ezvideo_async developers"
project_copyright = f"2026, {author}"
release = version = __version__

# --- the build --------------------------------------------------------------------------------

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
extensions = [
    "ezvideo_reference",
    "myst_parser",
    "poll_diagram",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_ext", "examples"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# --- the reference, from the docstrings ---------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_mock_imports = ["pytest"]  # the only import of the plugin
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# --- links ------------------------------------------------------------------------------------

nitpicky = True
FOREIGN = (
    "aiohttp anyio argparse asyncio attr attrs cattrs collections concurrent contextlib datetime "
    "enum json logging multidict os pathlib pytest ssl types typing typing_extensions yarl"
)
nitpick_ignore_regex = [
    # Links to other projects would need the network at every build.
    (r"py:.*", rf"({'|'.join(FOREIGN.split())})(\..*)?"),
    # The same, and builtins, as they are written in annotations.
    (r"py:(class|exc|data|obj)", r"[a-z]+|Any|Self|StrEnum|\w*(Error|Exception|Group|Warning)"),
    (r"py:(class|data|obj)", r"(Async)?(Awaitable|Callable|Coroutine|Iterable|Iterator)"),
    (r"py:(class|data|obj)", r"Collection|Mapping|Sequence"),
    # Private bases have no page.
    (r"py:(class|exc)", r"ezvideo_async\.(\w+\.)*_[A-Z]\w*"),
    # Private types in signatures.
    (r"py:class", r"(ezvideo_async\._\w+\.)*(AnyFinalEvent|Executor|LossReason|Unset)"),
    (r"py:class", r"Acknowledge|FinalKind|StoreArgument"),
    # Type variables have no page.
    (r"py:(class|obj)", r"(ezvideo_async\.\S+\.)?[A-Z]s?"),
]

# --- the examples -------------------------------------------------------------------------------

doctest_global_setup = "import asyncio\n\nimport ezvideo_async"

# --- the theme ----------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"ezvideo_async {release}"
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
