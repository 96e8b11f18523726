"""Checkpoints: all that a run needs to go on with the same numbers, bit for bit."""

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from suites.harness.measure.step import Step

_UNREADABLE = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)


class Checkpoint:
    """The checkpoint of one run, in one file that is written whole or not at all. ``run``: the identity of the run."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = run
        self._part = path.with_name(path.name + ".part")

    def save(self, step: Step, **progress: Any) -> None:
        """Save weights, optimizer and random states, and ``progress``: numbers, texts, and containers of them.

        Raises:
            OSError: if it cannot be written; the last checkpoint stays.
        """
        state = {
            "run": self._run,
            "network": step.network.state_dict(),
            "optimizer": step.optimizer.state_dict(),
            "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
            "progress": progress,
        }
        with self._part.open("wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # what torch makes of a write that fails
                raise OSError(f"checkpoint {self._part}: {str(error).splitlines()[0]}") from error
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._part, self._path)

    def load(self) -> Mapping[str, Any] | None:
        """The last checkpoint; None if there is none of this run, or it cannot be read."""
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
            return state if state["run"] == self._run else None
        except _UNREADABLE:
            return None

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)


def restore(step: Step, state: Mapping[str, Any]) -> None:
    """Set a fresh step to the state that was saved.

    Raises:
        ValueError, RuntimeError, KeyError: if the state is of another network or optimizer.
    """
    step.network.load_state_dict(state["network"])
    step.optimizer.load_state_dict(state["optimizer"])
    cpu, *gpus = state["random"]
    torch.set_rng_state(cpu)
    if gpus:
        torch.cuda.set_rng_state_all(gpus)
