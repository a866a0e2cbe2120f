"""What a benchmark measures: the ratio of two costs, taken in turn so that both see the machine in the same moods."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# Gives what one round cost, in seconds of CPU or of the clock.
Cost = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Figure:
    """A ratio, as median and quartiles of its rounds, and what it should be: ``("<=", 1.05)``; None where it is only told."""

    name: str
    low: float
    median: float
    high: float
    wanted: tuple[str, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median is what it should be, to the two decimals that are shown."""
        if self.wanted is None:
            return None
        compare, bound = self.wanted
        return round(self.median, 2) <= bound if compare == "<=" else round(self.median, 2) >= bound

    def __str__(self) -> str:
        wanted = "" if self.wanted is None else f"  {'' if self.met else 'NOT '}{self.wanted[0]} {self.wanted[1]:g}"
        return f"  {self.name:<76} {self.median:6.2f}  ({self.low:.2f} to {self.high:.2f}){wanted}"


async def ratio(
    name: str, numerator: Cost, denominator: Cost, rounds: int, wanted: tuple[str, float] | None = None, scale: float = 1
) -> Figure:
    """The ratio of two costs, ``rounds`` times the one and then the other, times ``scale``."""
    await numerator()
    await denominator()
    ratios = [scale * await numerator() / await denominator() for _ in range(rounds)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return Figure(name, low, median, high, wanted)


def cpu(function: Callable[[], Awaitable[object]], calls: int) -> Cost:
    """The CPU time of this process for a call of ``function``, the mean of ``calls``."""

    async def cost() -> float:
        before = time.process_time()
        for _ in range(calls):
            await function()
        return (time.process_time() - before) / calls

    return cost
