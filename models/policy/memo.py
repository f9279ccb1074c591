"""A bounded memo: answers that cost more to find than to keep."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """The answers used last, at most ``capacity`` of them; what it holds never changes an answer."""

    def __init__(self, capacity: int) -> None:
        self.capacity = max(capacity, 1)
        self._answers: OrderedDict[Hashable, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, question: Hashable, find: Callable[[], T]) -> T:
        """Return the kept answer, or find it and keep it in place of the one used longest ago."""
        answer = self._answers.get(question)
        if answer is None:
            answer = find()
            if len(self._answers) >= self.capacity:
                self._answers.popitem(last=False)
            self._answers[question] = answer
        else:
            self._answers.move_to_end(question)
        return answer
