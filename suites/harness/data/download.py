"""Downloads by torchvision, which checks hashes: a whole data set, or nothing."""

import io
import socket
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from http.client import HTTPException
from pathlib import Path

from suites.harness.data.problem import MissingError

_TIMEOUT_SECONDS = 10.0


def download_into(root: Path, source: str, folder: str, size: str, absent: MissingError) -> None:
    """Download a data set into ``root``.

    Args:
        source: its class in ``torchvision.datasets``.
        folder: where that class keeps it, below ``root``.
        size: of the download, for the message.
        absent: the error for the missing data.

    Raises:
        MissingError: ``absent`` and the reason: no network, no right to write, a wrong hash.
    """
    from rich.console import Console
    from torchvision import datasets

    console = Console(file=sys.stderr)  # bound before stderr is silenced: torchvision draws a bar of its own
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (
            console.status(f"downloading {source} ({size}) to {root}"),
            tempfile.TemporaryDirectory(dir=root, prefix=".download-") as scratch,
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            getattr(datasets, source)(scratch, download=True)
            Path(scratch, folder).rename(root / folder)
    except (OSError, RuntimeError, HTTPException) as error:
        said = " ".join(str(error).split())
        raise MissingError(f"{absent}; downloading it failed: {said}") from error
    finally:
        socket.setdefaulttimeout(timeout)
