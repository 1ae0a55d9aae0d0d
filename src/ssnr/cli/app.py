"""The command line itself: the group that all commands join, exit codes, and the one line an error becomes.

A command is a file in `ssnr.cli.commands`. It adds itself with `@app.command()`; nothing else has to know it. Such a
file imports torch, pandas and the like only inside its function, so that `ssnr --help` is quick.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ssnr.cli import anywhere, logs
from ssnr.core.errors import Interrupted, SsnrError, UsageError

INTERRUPTED = 130
# The signal that asks this process to end, once one has come: what a scheduler, `kill` and a closed terminal send.
_ended_by: list[int] = []
# typer's own errors, wherever the installed version keeps them.
_WrongUsage: type[Exception] = typer.BadParameter.__bases__[0]


class CommandGroup(TyperGroup):
    """Commands whose errors are one line on stderr. Exit codes: 0 done, 2 wrong usage, 130 interrupted, 1 else."""

    def main(self, args: Sequence[str] | None = None, *others: Any, **options: Any) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in given
        options["standalone_mode"] = False
        try:
            given, kind = logs.taken([a for a in given if a != "--debug"])
        except UsageError as error:
            sys.exit(_explained(error))
        with logs.log(kind):
            self._run(given, debug, *others, **options)

    def _run(self, given: list[str], debug: bool, *others: Any, **options: Any) -> None:
        try:
            rest, files = _imports(given)
            _run_files(files)
            code = super().main(rest, *others, **options)
        except BrokenPipeError:
            # The reader of a pipe left (`ssnr … | head`): nobody is there to be told.
            sys.stderr.close()
            sys.exit(1)
        except BaseException as error:
            if debug and not isinstance(error, SystemExit):
                traceback.print_exc()
            sys.exit(_explained(error))
        if code == INTERRUPTED:
            _say("interrupted")
            code = 128 + _ended_by[0] if _ended_by else code
        sys.exit(code if isinstance(code, int) else 0)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UsageError(f"unknown command {args[0]!r}: expected {_listed(self.commands)}")
        return super().resolve_command(ctx, args)


def _imports(args: list[str]) -> tuple[list[str], list[str]]:
    """The other arguments, and the files of `--import FILE` or `--import=FILE`, which may stand anywhere.

    Raises:
        UsageError: no file after it.
    """
    rest, files = anywhere.taken(args, "--import")
    for file in files:
        if not file or file.startswith("-"):
            raise UsageError("--import: expected a Python file after it, --import FILE.py")
    return rest, files


def _run_files(files: list[str]) -> None:
    """Run the user's own files, so that what they register is known; what they print is no part of any answer."""
    if files:
        from contextlib import redirect_stdout

        from ssnr.spaces.user_code import run_file

        with redirect_stdout(sys.stderr):
            for file in files:
                run_file(file)


def _explained(error: BaseException) -> int:
    """Say what went wrong, and give the exit code."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, _WrongUsage):
        _say(error.format_message() if hasattr(error, "format_message") else str(error))
        return 2
    if isinstance(error, (KeyboardInterrupt, typer.Abort, Interrupted)):
        _say(str(error) or "interrupted")
        return 128 + _ended_by[0] if _ended_by else INTERRUPTED
    if isinstance(error, SsnrError):
        _say(str(error))
        return 2 if isinstance(error, UsageError) else 1
    _say(f"unexpected {type(error).__name__}: {' '.join(str(error).split())} (--debug shows where)")
    return 1


def _say(message: str) -> None:
    # A group without a command has shown its help already.
    if message and not logs.event("error", text=message):
        sys.stderr.write(f"ssnr: {message}\n")


def _listed(names: Any) -> str:
    *most, last = sorted(names)
    return f"{', '.join(most)} or {last}" if most else str(last)


_NAMES = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="ssnr",
    cls=CommandGroup,
    help="Rank neural networks before they are trained, by the signal-to-noise ratio of their saliency.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings=_NAMES,
)


def group(name: str, summary: str) -> typer.Typer:
    """A command that consists of commands, such as `ssnr reproduce fig1`."""
    made = typer.Typer(cls=CommandGroup, help=summary, no_args_is_help=True, context_settings=_NAMES)
    app.add_typer(made, name=name)
    return made


def _version(asked: bool) -> None:
    if asked:
        from ssnr._version import __version__

        typer.echo(f"ssnr {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    import_: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="FILE.py",
            help="Run a file of your own first: the spaces, proxies, saliencies and aggregates that it registers are "
            "known. May stand after any command, and several times.",
        ),
    ] = None,
    log: Annotated[
        str, typer.Option(metavar="text|json", help="What stderr gets: text, or one JSON object a line. Anywhere.")
    ] = "text",
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Options that stand before any command; `CommandGroup.main` has read --debug, --import and --log already."""


def command_line() -> typer.Typer:
    """`app` with every command of `ssnr.cli.commands`."""
    from ssnr.cli import commands

    for module in iter_modules(commands.__path__, f"{commands.__name__}."):
        import_module(module.name)
    return app


class _Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP.

    A class of its own: after a bare KeyboardInterrupt in the middle of an `exec`, as when a data class is being
    imported, Python ends itself by SIGINT, although it was caught.
    """


def _end(number: int, frame: Any) -> None:
    """As Ctrl-C does: what is done is kept and said, and workers end."""
    _ended_by.append(number)
    raise _Ended


def main() -> None:
    """Run the command line."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _end)
    try:
        command_line()()
    except KeyboardInterrupt as error:  # while the commands are still being imported
        sys.exit(_explained(error))
