"""Memory footprints: the bytes of one training step by formula."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Footprint:
    """Bytes of a training step: ``phases`` has, for each phase of a step, the bytes of each part when most is held."""

    phases: dict[str, dict[str, int]]

    @property
    def peak_phase(self) -> str:
        """The phase in which most is held."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each part at the peak; they add up to it."""
        return self.phases[self.peak_phase]

    @property
    def peak_bytes(self) -> int:
        return sum(self.parts.values())


def predict(spec: str, sizes: tuple[int, ...], batch: int, dtype: str = "float32") -> Footprint | None:
    """The footprint of an optimizer on a network, or None where no formula is known for it."""
    raise NotImplementedError
