"""The predicted settings against the neighbour that seemed best.

Of several noisy figures the greatest is one that had luck, and the one to which it was compared may have had none. So
what is known of both is forgotten, and they are measured anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tuning.settings import Settings

RUNS: Final = 3
"""Of each."""

WORTH: Final = 0.05
"""So much more the challenger has to answer. Equals differ by about as much in so few runs, and what was predicted
follows from more than these."""


@dataclass(frozen=True, slots=True)
class Duel:
    """Between settings that are told apart.

    Args:
        predicted: chosen, unless the other is better by more than chance.
        challenger: a neighbour.
    """

    predicted: Settings
    challenger: Settings

    @property
    def turns(self) -> list[Settings]:
        """`RUNS` of each, about as early as late; settings change four times at most."""
        one, other = self.predicted, self.challenger
        return [one, other, other, one, one, other]

    def winner(self, score: Callable[[Settings, int], float]) -> Settings:
        """By so many last runs of each.

        Args:
            score: answers in time of the last runs of settings, so many of them.
        """
        better = score(self.challenger, RUNS) > (1 + WORTH) * score(self.predicted, RUNS)
        return self.challenger if better else self.predicted
