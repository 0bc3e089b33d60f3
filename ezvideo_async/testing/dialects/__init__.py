"""
Dialects of the fake server: how servers of different makes write the same task.

Each module turns the state of a task into the JSON of one make of server, by pure functions.  The
shapes follow the API document and the public sources of the servers; names and texts in them are
made up.
"""

from __future__ import annotations

from ezvideo_async.testing.dialects.ezmodel import EZMODEL
from ezvideo_async.testing.dialects.new_api import NEW_API, NEW_API_TASK
from ezvideo_async.testing.dialects.openai import OPENAI
from ezvideo_async.testing.dialects.openrouter import OPENROUTER
from ezvideo_async.testing.dialects.xai import XAI

DIALECTS = {
    dialect.name: dialect for dialect in (EZMODEL, OPENAI, NEW_API, NEW_API_TASK, XAI, OPENROUTER)
}
