"""
Argument parser of the ``ezvideo`` command and its help texts.

It imports nothing heavier than argparse, so that ``--help`` is fast.
"""

from __future__ import annotations

import argparse
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

from ezvideo_async._version import __version__
from ezvideo_async.cli.completion import PrintCompletion
from ezvideo_async.cli.exit_codes import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERVAL, TIMEOUT, RATE, REQUEST_TIMEOUT = 5.0, 86_400.0, 100.0, 15.0
"""The library's own defaults, repeated because importing them is slow."""

DIALECTS = ("ezmodel", "openai", "new-api", "new-api-task", "xai", "openrouter")
"""Those of the fake server, likewise."""

_EXIT_CODES = """\
exit codes:
  0  all tasks completed
  1  all tasks ended, but some failed or were lost
  2  wrong usage or configuration: no API key, unusable base URL or task id,
     unknown option, unusable store
  3  the server refused the API key
  4  some tasks are not finished: timeout reached (watch), or still running
     (status)
  6  some states could not be saved in the store (watch --store)
  130, 143, 129  stopped by Ctrl-C, SIGTERM, SIGHUP
If several apply, the first of 130, 143, 129, 2, 3, 6, 4, 1 is returned.
"""

_API_KEY_REFUSED = (
    "--api-key does not exist, because every user of this machine can read the arguments; "
    "set EZVIDEO_API_KEY or give --api-key-file FILE"
)


class _Parser(argparse.ArgumentParser):
    """Parser without abbreviations that raises UsageError instead of exiting."""

    def __init__(self, **options: Any) -> None:
        options["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, **options)
        self.add_argument("--api-key", nargs="?", action=_RefuseApiKey, help=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


class _RefuseApiKey(argparse.Action):
    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise UsageError(_API_KEY_REFUSED)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """
    Parse the arguments; None means those of the process.

    Raises:
        UsageError: The arguments are invalid.
        SystemExit: Help, the version or a completion script has been printed.
    """
    args, unknown = _parser().parse_known_args(argv)
    if args.command is None:
        raise UsageError("no command; try ezvideo demo, or ezvideo --help for a list of commands")
    if unknown:
        # Only the name of the option is printed: its value may be an API key.
        options = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        problem = f"unknown option {options[0]}" if options else "too many arguments"
        raise UsageError(f"{problem}; see ezvideo {args.command} --help")
    return args


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ezvideo",
        description="Track video-generation tasks to completion, with few requests.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"ezvideo {__version__}")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=("bash", "zsh", "fish"),
        help="print a shell completion script and exit",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for add in (_add_demo, _add_status, _add_watch, _add_store, _add_serve_fake):
        add(commands)
    return parser


Commands = Any  # The class is private in argparse.


def _add_demo(commands: Commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="watch the tasks of a fake server; needs no account",
        description="Start a fake server in this process and watch its tasks.\n"
        "Most complete, some fail, and one is lost.  Needs no account and no network.",
    )
    demo.set_defaults(module="commands.demo")
    _add_count(demo, default=200)
    demo.add_argument(
        "--seconds",
        type=_positive,
        default=28.0,
        metavar="S",
        help="seconds until the last task finishes (default: %(default)g)",
    )
    _add_verbose(demo)


def _add_status(commands: Commands) -> None:
    status = commands.add_parser(
        "status",
        help="print the current status of each task",
        description="Request the status of each task once and print one line per task.\n"
        "The lines are in the order of the ids.",
    )
    status.set_defaults(module="commands.status")
    _add_ids(status)
    _add_json(status, "one JSON object per line, in the format of the API")
    _add_connection(status)


def _add_watch(commands: Commands) -> None:
    watch = commands.add_parser(
        "watch",
        help="watch tasks until each one has finished",
        description="Poll tasks until each one has ended, and print one line per status change.\n"
        "Ctrl-C stops polling, not the tasks, and prints a command to continue.",
    )
    watch.set_defaults(module="commands.watch")
    _add_ids(watch)
    _add_json(watch, "one JSON object per event, each on its own line")
    watch.add_argument(
        "--interval",
        type=_positive,
        default=INTERVAL,
        metavar="S",
        help="seconds between status requests per task (default: %(default)g)",
    )
    watch.add_argument(
        "--timeout",
        type=_positive,
        default=TIMEOUT,
        metavar="S",
        help="stop polling a task after S seconds; it counts as lost (default: %(default)g, "
        "one day)",
    )
    watch.add_argument(
        "--store",
        metavar="FILE",
        help="save the tasks in this file, and also watch those that it already has; "
        "ids may then be left out",
    )
    watch.add_argument("--progress", action="store_true", help="also print changes of progress")
    watch.add_argument(
        "--any", action="store_true", help="stop when the first task has ended, however it ended"
    )
    watch.add_argument(
        "--fail-fast",
        action="store_true",
        help="stop when the first task has failed or is lost",
    )
    _add_connection(watch)


def _add_store(commands: Commands) -> None:
    store = commands.add_parser(
        "store",
        help="list the tasks that watch --store has saved",
        description="Print one line per task of a store: its id and its last state.\n"
        "Sends no request.  The store must not be in use by a running watch.",
    )
    store.set_defaults(module="commands.store")
    store.add_argument("file", metavar="FILE", help="file that watch --store has made")
    _add_json(store, "one JSON object per task, each on its own line")


def _add_serve_fake(commands: Commands) -> None:
    serve = commands.add_parser(
        "serve-fake",
        help="run a fake server for experiments",
        description="Run a fake server on this machine until Ctrl-C.\n"
        "It prints commands that watch its tasks from another terminal.",
    )
    serve.set_defaults(module="commands.serve_fake")
    serve.add_argument(
        "--dialect",
        choices=DIALECTS,
        default=DIALECTS[0],
        metavar="NAME",
        help="format of the responses: %(choices)s (default: %(default)s)",
    )
    serve.add_argument(
        "--port",
        type=_port,
        default=0,
        metavar="N",
        help="port to listen on; 0 means any free port (default: %(default)s)",
    )
    _add_count(serve, default=5)
    _add_verbose(serve)


def _add_ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="task ids; - reads them from stdin, one per line"
    )
    parser.add_argument(
        "--from",
        dest="file",
        metavar="FILE",
        help="read task ids from a file, one per line; skips blank lines and # comments",
    )


def _add_json(parser: argparse.ArgumentParser, shape: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {shape}")


def _add_connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rate",
        type=_positive,
        default=RATE,
        metavar="N",
        help="maximum requests per second, all tasks together (default: %(default)g)",
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="server URL, up to and including /v1 (default: EZVIDEO_BASE_URL, else "
        "https://www.ezmodel.cloud/v1)",
    )
    parser.add_argument(
        "--allow-insecure",
        action="store_true",
        help="allow a base URL of plain http:// that leads to another machine",
    )
    parser.add_argument(
        "--api-key-file",
        metavar="FILE",
        help="file with the API key in its first line (default: EZVIDEO_API_KEY)",
    )
    parser.add_argument(
        "--header",
        dest="headers",
        type=_header,
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="send this header with every request; may be repeated",
    )
    parser.add_argument(
        "--request-timeout",
        type=_positive,
        default=REQUEST_TIMEOUT,
        metavar="S",
        help="seconds for one request, from connecting to the last byte (default: %(default)g)",
    )
    parser.add_argument(
        "--proxy",
        metavar="URL",
        help="send requests through this HTTP proxy, or through that of HTTPS_PROXY and NO_PROXY "
        "if URL is the word environment (default: no proxy)",
    )
    _add_verbose(parser)


def _add_verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="log to stderr; -vv also logs every request",
    )


def _add_count(parser: argparse.ArgumentParser, *, default: int) -> None:
    parser.add_argument(
        "--tasks",
        type=_count,
        default=default,
        metavar="N",
        help="number of tasks (default: %(default)s)",
    )


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not isfinite(number) or number <= 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!a}")
    return number


def _header(text: str) -> tuple[str, str]:
    # The text is not printed: it may contain a secret.
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not name or not colon:
        raise argparse.ArgumentTypeError("must be NAME:VALUE")
    if name.lower() == "authorization":
        raise argparse.ArgumentTypeError(
            "the API key is no header here; set EZVIDEO_API_KEY or give --api-key-file FILE"
        )
    return name, value


_MAX_TASKS = 100_000
_MAX_PORT = 65_535


def _count(text: str) -> int:
    return _integer(text, low=1, high=_MAX_TASKS)


def _port(text: str) -> int:
    return _integer(text, low=0, high=_MAX_PORT)


def _integer(text: str, *, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal() and low <= int(text[:9]) <= high):
        raise argparse.ArgumentTypeError(f"must be an integer from {low} to {high}, got {text!a}")
    return int(text)
