"""How the pages are built; `nox -s docs` does it."""

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
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_ext", "examples"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# --- the reference, out of the docstrings -------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_mock_imports = ["pytest"]  # the plugin's only import
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape", "Source"]
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
    # Other people's pages: to link them would need the network at every build.
    (r"py:.*", rf"({'|'.join(FOREIGN.split())})(\..*)?"),
    # The same, and builtins, as annotations spell them.
    (r"py:(class|exc|data|obj)", r"[a-z]+|Any|Self|StrEnum|\w*(Error|Exception|Group|Warning)"),
    (r"py:(class|data|obj)", r"(Async)?(Awaitable|Callable|Coroutine|Iterable|Iterator)"),
    (r"py:(class|data|obj)", r"Collection|Mapping|Sequence"),
    # Private bases have no page of their own.
    (r"py:(class|exc)", r"ezvideo_async\.(\w+\.)*_[A-Z]\w*"),
    # Told in prose: a key or a callable that gives one, what the scheduler takes, a client.
    (r"py:class", r"(ezvideo_async\._\w+\.)?(KeySource|Watch|Progressed|Listener|Executor)"),
    # Type variables have no place to link to.
    (r"py:(class|obj)", r"(ezvideo_async\.\S+\.)?[A-Z]s?"),
]

# --- the examples -------------------------------------------------------------------------------

doctest_global_setup = "import asyncio\n\nimport ezvideo_async"

# --- the looks ----------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"ezvideo_async {release}"
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
