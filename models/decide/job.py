"""A user who waits for a decision."""

from __future__ import annotations

from typing import NamedTuple

from models.domain.decision import Trigger
from models.domain.events import Context, Request, UserEvent
from models.domain.ids import decision_id
from models.domain.log import LogRecord

_NO_CONTEXT = Context()


class Job(NamedTuple):
    """A user who waits for a decision, and the record that asks for it."""

    row: int
    record: LogRecord
    event: UserEvent
    trigger: Trigger

    @property
    def decision_id(self) -> str:
        """Return the id of the decision to be made."""
        return decision_id(self.record.topic, self.record.partition, self.record.offset)

    @property
    def context(self) -> Context:
        """Return the request's context; a click or dwell brings none."""
        return self.event.context if isinstance(self.event, Request) else _NO_CONTEXT

    @property
    def placement_id(self) -> str:
        """Return the placement asked for."""
        return self.event.placement_id if isinstance(self.event, Request) else "default"
