"""From a platform's answer to its data, or to the error that it means: one way for sending and for listening."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgcore.platforms.error_table import ErrorTable, Problem, with_wait
from msgcore.platforms.strange_answers import read_answer

if TYPE_CHECKING:
    from msgcore.core.clock import Clock
    from msgcore.outbound.transport import Response


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """Reads answers of one platform: its name for people, its own shape of errors, and what each of them means.

    `problem` gets an answer and the JSON object of its body, and gives None for a success.
    """

    platform: str
    problem: Callable[[Response, Mapping[str, Any]], Problem | None]
    errors: ErrorTable
    clock: Clock

    def read(self, answer: Response) -> Mapping[str, Any]:
        """The JSON object of a success, empty where it has none. Raises DeliveryError by the table of errors."""
        data = read_answer(answer, self.platform)
        problem = self.problem(answer, data)
        if problem is not None:
            raise self.errors.error(with_wait(problem, answer, self.clock.now()), self.platform)
        return data
