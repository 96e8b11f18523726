"""The two sides of a comparison of results: a folder, or what a commit holds."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def folder_of(side: str) -> Iterator[Path]:
    """The folder that ``side`` names; of a commit a copy that lasts as long as the context.

    Args:
        side: a folder, or ``COMMIT`` or ``COMMIT:FOLDER`` of the git repository at hand; the folder is ``results``
            unless given, from the top of the repository.

    Raises:
        ValueError: if it is neither, in one line.
    """
    if Path(side).is_dir():
        yield Path(side)
        return
    commit, _, folder = side.partition(":")
    with TemporaryDirectory() as copy:
        try:
            top = _git("rev-parse", "--show-toplevel").decode().strip()
            archive = _git("-C", top, "archive", "--format=tar", f"{commit}^{{commit}}", "--", folder or "results")
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", b"").decode(errors="replace").strip().splitlines()
            raise ValueError(
                f"{side}: there is no such folder, nor is it COMMIT or COMMIT:FOLDER for git ({(said or [error])[-1]})"
            ) from None
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.10.11 and 3.11.3 have none
            files.extractall(copy)
        yield Path(copy)


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
