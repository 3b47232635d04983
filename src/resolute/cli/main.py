"""Entry point of the command ``resolute``: find the verb, word the errors, set the exit code.

Exit codes: 0 done, 1 a bug (with traceback), 2 the user's mistake (one line), 130 interrupted,
141 the reader of the output left before the work was done.
No torch is loaded before a verb needs it.
"""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import MutableMapping, Sequence
from typing import NoReturn

from resolute.core.config import unknown_name
from resolute.core.errors import ReidError
from resolute.core.version import __version__

VERBS: dict[str, str] = {
    "quickstart": "draw data, train Baseline and FTWA on the CPU, evaluate, print one table",
    "train": "train a method on a data set",
    "evaluate": "score runs, or anybody's embeddings, under a named protocol",
    "recipes": "list methods, data sets and what each recipe sets",
    "describe": "print parameters, MACs and shapes of a run or backbone",
    "table": "fill a table of the paper cell by cell; goes on where it stopped",
    "gain": "results against results, person by person, with intervals",
    "report": "write one page about runs, to open without a network",
    "results": "make the page of kept results",
    "convert": "turn a weight file into an untrained run, an OpenVINO graph into a weight file",
    "blend": "keep a share of a run's start weights, without training",
    "calibrate": "fit what distances and images are worth, on people a run never saw",
    "compare": "compare two people by their images: distance, probability, warnings",
    "embed": "embed a folder of images into one .npz or .parquet file",
    "index": "embed a folder of images into a gallery to search; goes on where it stopped",
    "search": "find the images of a gallery nearest to a query",
    "gallery": "count, verify, delete from, purge, expire or export a gallery",
    "serve": "search a gallery over HTTP: an API and a page",
    "export": "write a run as ONNX or OpenVINO for trackers and servers, checked",
    "mlr": "build or verify a multi-low-resolution data set on disk",
    "datasets": "check a data set folder against the published counts",
}


# Rounds that a thread of GNU OpenMP waits for the next piece of work before it sleeps.
SPINS = "10000"


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit code 2.

        Args:
            message: what is wrong.
        """
        fail(message)


def fail(message: str) -> NoReturn:
    """Report the user's mistake in one line and leave with exit code 2.

    Args:
        message: what is wrong and what to do.
    """
    print(f"resolute: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: words after the program's name; the process's own by default.

    Returns:
        The exit code.

    Raises:
        SystemExit: with the exit code, behind a help text or the user's mistake.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    code: int | None = None
    try:
        try:
            code = _run(words)
            _flush()  # here, where a full disk can still be worded
        except SystemExit as done:  # of argparse, behind a help text or an error
            code = int(done.code or 0)
            _flush()
            raise
    except ReidError as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("resolute: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) left: not an error, once all was done.
        _settle_output()
        return 141 if code is None else code
    except OSError as error:
        # A folder that cannot be written, a full disk: the user's to mend, with its name.
        _settle_output()
        fail(f"{error.filename or 'output'}: {error.strerror or error}")
    return code


def _flush() -> None:
    if sys.stdout is not None:  # as it is where a daemon closed it
        sys.stdout.flush()


def _settle_output() -> None:
    """Let the interpreter's own flush at exit succeed, whatever became of the output."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"resolute {__version__}")
        return 0
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        fail(unknown_name("command", verb, list(VERBS)) + " (resolute --help lists all)")
    told = logging.StreamHandler(sys.stderr)
    # What other libraries tell below a warning is for their makers.
    told.addFilter(lambda r: r.name.startswith("resolute") or r.levelno >= logging.WARNING)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[told])
    wait_briefly(os.environ)
    module = importlib.import_module(f"resolute.cli.{verb}")
    parser = Parser(prog=f"resolute {verb}", description=VERBS[verb], allow_abbrev=False)
    code: int = module.run(parser, rest)
    return code


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Have torch's threads sleep soon when they wait, unless the user says how they wait.

    By default they keep their cores for a millisecond or so at each of thousands of waits, which
    takes them from whoever does the work wherever cores are shared (``benchmarks/waiting.py``).
    No number changes. Read when torch is loaded, so later calls do nothing.

    Args:
        environment: of this process; what it starts inherits it.
    """
    if not environment.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        environment["GOMP_SPINCOUNT"] = SPINS


def _overview() -> str:
    width = max(len(verb) for verb in VERBS)
    lines = [f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "resolute: person re-identification across camera resolutions",
            "",
            "usage: resolute COMMAND [options]    (resolute COMMAND --help explains each)",
            "",
            *lines,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
