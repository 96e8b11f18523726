"""The one clock: seconds of wall time, with the device synchronized at both ends of what is timed."""

import time
from types import TracebackType

import torch


class Stopwatch:
    """Adds up the seconds spent inside ``with stopwatch:``."""

    def __init__(self, device: torch.device | str) -> None:
        self.seconds = 0.0
        self._device = torch.device(device)

    def __enter__(self) -> "Stopwatch":
        self._started = self._now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += self._now() - self._started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
