"""The sides of a comparison of results: a folder, or the results of a commit."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def folder_of(side: str) -> Iterator[Path]:
    """The folder of a side. For a commit it is a copy, which is deleted when the context ends.

    Args:
        side: a folder, or ``COMMIT`` or ``COMMIT:FOLDER`` in the git repository here. FOLDER counts from the top of the
            repository; the default is ``results``.

    Raises:
        ValueError: one line, if it is neither.
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
    """The output of a git command. A user's own words must come after ``--end-of-options``."""
    return subprocess.run(["git", "--literal-pathspecs", *arguments], capture_output=True, check=True).stdout
