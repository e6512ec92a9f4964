"""All outcomes of what a trial is asked, to count a space exactly."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

from spaces.choices import Trial

T = TypeVar("T")


class Script:
    """A trial that follows `path`, an index a choice, and from its end on takes the first of each."""

    def __init__(self, path: Sequence[int] = ()) -> None:
        self.path = path
        self.taken: list[tuple[int, int]] = []
        """Index and number of the choices so far."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return the next choice."""
        step = len(self.taken)
        index = self.path[step] if step < len(self.path) else 0
        self.taken.append((index, len(choices)))
        return choices[index]


def outcomes(ask: Callable[[Trial], T]) -> Iterator[T]:
    """Yield what `ask` returns, once for each sequence of choices; which it asks for may depend on earlier ones."""
    path: list[int] | None = []
    while path is not None:
        script = Script(path)
        yield ask(script)
        path = following(script.taken)


def following(taken: Sequence[tuple[int, int]]) -> list[int] | None:
    """Return the path after the one taken, in the order of digits; None after the last."""
    open_steps = [step for step, (index, number) in enumerate(taken) if index + 1 < number]
    if not open_steps:
        return None
    return [*(index for index, _ in taken[: open_steps[-1]]), taken[open_steps[-1]][0] + 1]


def distinct(ask: Callable[[Trial], Hashable]) -> int:
    """Return how many different outcomes `ask` has."""
    return len(set(outcomes(ask)))
