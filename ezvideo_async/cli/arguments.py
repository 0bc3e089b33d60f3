"""
The command line: what may be typed.

Nothing heavier than argparse is imported here, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

from ezvideo_async._version import __version__
from ezvideo_async.cli.exit_codes import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERVAL, TIMEOUT, RATE = 5.0, 86_400.0, 100.0
"""The library's own defaults, which it would take long to import."""

_EXITS = """\
exit codes:
  0  all tasks are completed
  1  some tasks failed or were lost
  2  wrong usage or set-up: no key, a bad base URL, a bad id, an unknown option
  3  the key was refused
  4  tasks are still open: the time limit was reached
  130, 143, 129  interrupted, terminated, hung up
"""

_KEY_IS_NO_ARGUMENT = (
    "the key is never taken as an argument, because every user of this machine can read "
    "arguments; set EZVIDEO_API_KEY or give --api-key-file FILE"
)


class _Parser(argparse.ArgumentParser):
    """A parser of whole words whose complaints are one sentence."""

    def __init__(self, **options: Any) -> None:
        options["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, **options)
        self.add_argument("--api-key", nargs="?", action=_RefuseKey, help=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


class _RefuseKey(argparse.Action):
    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise UsageError(_KEY_IS_NO_ARGUMENT)


class _PrintCompletion(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002 -- the base class names it
        values: object,
        option_string: str | None = None,  # noqa: ARG002 -- likewise
    ) -> NoReturn:
        try:
            import shtab  # noqa: PLC0415 -- in the extra "cli", and rarely needed
        except ModuleNotFoundError:
            raise UsageError("completion needs shtab: pip install 'ezvideo_async[cli]'") from None
        print(shtab.complete(parser, shell=str(values)))
        parser.exit()


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """
    Read the arguments; None reads the process's own.

    Raises:
        UsageError: They make no sense.
        SystemExit: Help, the version or a completion was asked for, and has been printed.
    """
    args, unknown = _parser().parse_known_args(argv)
    if args.command is None:
        raise UsageError("say what to do, as in: ezvideo demo; ezvideo --help lists all commands")
    if unknown:
        # Only the option's name is told: what follows it may be a secret.
        words = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        what = f"unknown option {words[0]}" if words else "an argument too many"
        raise UsageError(f"{what}; see ezvideo {args.command} --help")
    return args


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ezvideo",
        description="Know, soon and cheaply, when each video-generation task ends.",
        epilog=_EXITS,
    )
    parser.add_argument("--version", action="version", version=f"ezvideo {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh"),
        help="print a completion script for a shell, and end",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for add in (_add_demo, _add_status, _add_watch, _add_serve_fake):
        add(commands)
    return parser


Commands = Any  # argparse's own name for it is private.


def _add_demo(commands: Commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="watch tasks of a fake server; needs no account",
        description="Start a fake server in this process and watch its tasks, some of which "
        "fail;\none gets lost.  Needs no account and no network.",
    )
    demo.set_defaults(module="commands.demo")
    _add_count(demo, default=200)
    demo.add_argument(
        "--seconds",
        type=_positive,
        default=28.0,
        metavar="S",
        help="seconds until the last task ends (default: %(default)g)",
    )
    _add_verbose(demo)


def _add_status(commands: Commands) -> None:
    status = commands.add_parser(
        "status",
        help="ask once for each task",
        description="Ask once for each task and print one line for it, in the order given.\n"
        "Exit code 4 says that none failed and some are still open.",
    )
    status.set_defaults(module="commands.status")
    _add_ids(status)
    _add_json(status, "one JSON object a line, in the shape of the API document")
    _add_connection(status)


def _add_watch(commands: Commands) -> None:
    watch = commands.add_parser(
        "watch",
        help="follow tasks until each has ended",
        description="Follow tasks until each has ended, and print one line for every change of\n"
        "status.  Ctrl-C stops and says how to go on; the tasks themselves go on anyway.",
    )
    watch.set_defaults(module="commands.watch")
    _add_ids(watch)
    _add_json(watch, "one JSON object a line for every event")
    watch.add_argument(
        "--interval",
        type=_positive,
        default=INTERVAL,
        metavar="S",
        help="seconds between two looks at one task (default: %(default)g)",
    )
    watch.add_argument(
        "--timeout",
        type=_positive,
        default=TIMEOUT,
        metavar="S",
        help="seconds until a task is given up (default: %(default)g, a day)",
    )
    watch.add_argument(
        "--progress", action="store_true", help="print changes of progress alone, too"
    )
    _add_connection(watch)


def _add_serve_fake(commands: Commands) -> None:
    serve = commands.add_parser(
        "serve-fake",
        help="run a fake server to try things on",
        description="Run a fake server on this machine until Ctrl-C, and print what to type into\n"
        "another terminal.",
    )
    serve.set_defaults(module="commands.serve_fake")
    serve.add_argument(
        "--dialect",
        default="ezmodel",
        metavar="NAME",
        help="how it speaks; an unknown name lists all (default: %(default)s)",
    )
    serve.add_argument(
        "--port",
        type=_port,
        default=0,
        metavar="N",
        help="where it listens; 0 takes a free port (default: %(default)s)",
    )
    _add_count(serve, default=5)
    _add_verbose(serve)


def _add_ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="task ids; - reads them from stdin, one a line"
    )
    parser.add_argument(
        "--from",
        dest="file",
        metavar="FILE",
        help="read ids from a file, one a line; blank lines and # comments are skipped",
    )


def _add_json(parser: argparse.ArgumentParser, shape: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {shape}")


def _add_connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rate",
        type=_positive,
        default=RATE,
        metavar="N",
        help="requests a second at most, for all tasks together (default: %(default)g)",
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="the server, up to and including /v1 (default: EZVIDEO_BASE_URL, else "
        "https://www.ezmodel.cloud/v1)",
    )
    parser.add_argument(
        "--api-key-file",
        metavar="FILE",
        help="a file whose first line is the key (default: EZVIDEO_API_KEY)",
    )
    _add_verbose(parser)


def _add_verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="log to stderr; -vv logs every request"
    )


def _add_count(parser: argparse.ArgumentParser, *, default: int) -> None:
    parser.add_argument(
        "--tasks",
        type=_count,
        default=default,
        metavar="N",
        help="how many tasks there are (default: %(default)s)",
    )


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not isfinite(number) or number <= 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!a}")
    return number


_MAX_TASKS = 100_000
_MAX_PORT = 65_535


def _count(text: str) -> int:
    return _whole(text, low=1, high=_MAX_TASKS)


def _port(text: str) -> int:
    return _whole(text, low=0, high=_MAX_PORT)


def _whole(text: str, *, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal() and low <= int(text[:9]) <= high):
        raise argparse.ArgumentTypeError(
            f"must be a whole number from {low} to {high}, got {text!a}"
        )
    return int(text)
