"""A ledger of the numbers that a training step holds, and the footprint from it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Footprint:
    """Bytes of a training step: ``phases`` has, for each phase, the bytes of each part at the peak of the phase."""

    phases: dict[str, dict[str, int]]

    @property
    def peak_phase(self) -> str:
        """The phase with the highest peak."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each part at the peak; they add up to it."""
        return self.phases[self.peak_phase]

    @property
    def peak_bytes(self) -> int:
        """The most bytes held at once."""
        return sum(self.parts.values())


class Ledger:
    """Numbers held, by part, and the peak of each phase.

    Args:
        width: bytes of a number.
        budget_bytes: the limit while ``enforced``; None is no limit.
        library: whether the part ``library`` counts.
    """

    def __init__(self, width: int, budget_bytes: int | None, library: bool) -> None:
        self.enforced = False
        self._width, self._budget, self._library = width, budget_bytes, library
        self._held: Counter[str] = Counter()
        self._phase = "forward_backward"
        self._fullest: dict[str, Counter[str]] = {}

    def begin(self, phase: str) -> None:
        """Begin a phase. Nothing is let go."""
        self._phase = phase
        self.hold()

    def hold(self, **numbers: int) -> None:
        """Hold more numbers of each part.

        Raises:
            MemoryError: if the budget is enforced and exceeded.
        """
        held = self._held + Counter(numbers)
        if not self._library:
            del held["library"]
        if self.enforced and self._budget is not None and self._width * _total(held) > self._budget:
            raise MemoryError
        self._held = held
        if _total(held) > _total(self._fullest.get(self._phase, Counter())):
            self._fullest[self._phase] = held

    @contextmanager
    def during(self, **numbers: int) -> Iterator[None]:
        """Hold numbers inside the ``with`` block. A MemoryError inside lets go of all that was held since."""
        before = self._held
        self.hold(**numbers)
        try:
            yield
        except MemoryError:
            self._held = before
            raise
        self.let_go(**numbers)

    def let_go(self, **numbers: int) -> None:
        """Hold fewer numbers of each part.

        Raises:
            ValueError: if so many are not held.
        """
        for part, count in numbers.items():
            if count > self._held[part] and (part != "library" or self._library):
                raise ValueError(f"{part}: {count} numbers let go, {self._held[part]} held")
        self._held = self._held - Counter(numbers)

    def footprint(self) -> Footprint:
        """The peak of each phase, in bytes."""
        return Footprint(
            {
                phase: {part: self._width * count for part, count in held.items()}
                for phase, held in self._fullest.items()
            }
        )


def _total(held: Counter[str]) -> int:
    return sum(held.values())
