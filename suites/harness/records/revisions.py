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
    if not side:
        raise ValueError("a side is empty; give a folder, COMMIT or COMMIT:FOLDER")
    if Path(side).is_dir():
        yield Path(side)
        return
    commit, _, folder = side.partition(":")
    with TemporaryDirectory() as copy:
        try:
            found = _git("rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}").decode().strip()
            top = _git("rev-parse", "--show-toplevel").decode().strip()
            packed = _git("-C", top, "archive", "--format=tar", found, "--", folder or "results")
            with tarfile.open(fileobj=io.BytesIO(packed)) as files:
                files.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.10.11 and 3.11.3 have none
                files.extractall(copy)
        except tarfile.TarError as error:
            raise ValueError(f"{side}: the commit holds a file that cannot be taken from it: {error}") from None
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
            raise ValueError(
                f"{side}: there is no such folder, nor is it COMMIT or COMMIT:FOLDER for git ({(said or [error])[-1]})"
            ) from None
        yield Path(copy)


def _git(*arguments: str) -> bytes:
    """What a git command says; what a user gives must stand behind the end of its options."""
    return subprocess.run(["git", "--literal-pathspecs", *arguments], capture_output=True, check=True).stdout
