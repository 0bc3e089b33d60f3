"""Entry point of ``python -m ezvideo_async.cli``, the same as the ``ezvideo`` command."""

from __future__ import annotations

import sys

from ezvideo_async.cli import main

if __name__ == "__main__":
    sys.exit(main())
