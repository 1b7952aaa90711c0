"""The group of all commands, and how their errors are told."""

from __future__ import annotations

import codecs
import errno
import io
import locale
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from caloforge import __version__
from caloforge.cli.inputs import stop_on_sigterm
from caloforge.cli.options import Address, InputPath
from caloforge.errors import InputError
from caloforge.fetch import paths_of
from caloforge.logs import configure_logging
from caloforge.memory import collect_garbage_seldom
from caloforge.outputs import STANDARD_OUTPUT, outside, refuse_inputs
from caloforge.secrets import masked
from caloforge.space import NoScratch, NoSpace, for_want_of_space, lacks_scratch

_OF_A_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.ENXIO, errno.EINVAL)
"""What another path would mend; other errors of the system (a disk that fails) are not of the input."""

_NO_MEMORY = "not enough memory for this; give it more, or a smaller input"
_ALLOCATION = re.compile(r"can't allocate memory|out of memory|Storage size calculation overflowed|bad_alloc")
"""How PyTorch says that there is no memory."""


class Command(click.Command):
    """A command whose help ends with an example, and whose output is none of its inputs."""

    def __init__(self, *args: Any, example: str, goes_on: bool = False, **kwargs: Any) -> None:
        """Make it.

        Args:
            args: see :class:`click.Command`.
            example: a line of the shell.
            goes_on: what is in its output stays there, and so may be an input.
            kwargs: see :class:`click.Command`.
        """
        super().__init__(*args, **kwargs)
        self.example = example
        self.goes_on = goes_on

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, unless its output is, holds or lies in one of its inputs."""
        output = ctx.params.get("output")
        if output is not None and output != STANDARD_OUTPUT:
            inputs = paths_of(*self._inputs(ctx))
            inputs = outside(output, inputs) if self.goes_on else inputs
            refuse_inputs(output, inputs, folder="overwrite" in ctx.params)
        return super().invoke(ctx)

    def _inputs(self, ctx: click.Context) -> Iterator[str | Path]:
        """Yield what is given for the options that are read."""
        for parameter in self.params:
            if isinstance(parameter.type, InputPath | Address) and (given := ctx.params.get(str(parameter.name))):
                yield from given if isinstance(given, tuple) else (given,)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"  {line}\n")


class Commands(click.Group):
    """A group whose errors are one line on standard error: 2 for wrong input, 1 for a failed step."""

    command_class = Command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command and leave with its exit code."""
        kwargs["standalone_mode"] = False
        if not args and kwargs.get("args") is None:
            _speak_utf8()
            sys.excepthook = _without_secrets
            stop_on_sigterm()  # what a command has half written goes with it
            collect_garbage_seldom()
        try:
            code = super().main(*args, **kwargs) or 0
            sys.stdout.flush()  # what cannot be written is told here, not when the interpreter ends
            sys.exit(code)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.ClickException as error:
            fail(error.format_message(), code=error.exit_code)
        except InputError as error:
            fail(str(error), code=2)
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            if lacks_scratch(error):  # libraries want such a folder, too
                fail(str(NoScratch()), code=1)
            fail(f"{error.filename}: {error.strerror}" if error.filename is not None else str(error), code=2)
        except BrokenPipeError:  # who reads it has seen enough
            _give_up_output()
            sys.exit(1)
        except UnicodeEncodeError as error:
            if "surrogates not allowed" not in error.reason:
                raise
            fail(f"{error.object!a}: is the name of a file and not UTF-8; give it another name", code=2)
        except OSError as error:
            if for_want_of_space(error):
                _give_up_output()
                fail(str(NoSpace(error.filename or "standard output")), code=1)
            if error.filename is None or not error.strerror:
                raise
            fail(f"{error.filename}: {error.strerror}", code=2 if error.errno in _OF_A_NAME else 1)
        except click.Abort:
            fail("interrupted", code=130)
        except MemoryError:
            fail(_NO_MEMORY, code=1)
        except RuntimeError as error:
            if _ALLOCATION.search(str(error)):
                fail(_NO_MEMORY, code=1)
            if not type(error).__module__.startswith("caloforge."):
                raise
            click.echo(masked(f"Error: {error}"), err=True)
            sys.exit(1)


def _without_secrets(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show a traceback as Python does, but for what is secret in it."""
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))


def _speak_utf8() -> None:
    """Begin again in Python's UTF-8 mode where the locale is another: names of files, and what libraries write.

    What the output cannot show, an encoding that the user chose (``PYTHONIOENCODING``), becomes a question mark: it
    must not end the work after hours.
    """
    if not sys.flags.utf8_mode and codecs.lookup(locale.getpreferredencoding(False)).name != "utf-8":
        os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _give_up_output() -> None:
    """Let what standard output still holds go nowhere; the interpreter would try again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str, *, code: int) -> None:
    """Leave with one line on standard error."""
    click.echo(masked("Error: " + " ".join(line.strip() for line in message.splitlines())), err=True)
    sys.exit(code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """From full-simulation calorimeter showers to a fast, validated, served generator."""
    configure_logging()
