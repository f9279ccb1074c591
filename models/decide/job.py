"""A user who waits for a decision."""

from __future__ import annotations

from typing import NamedTuple

from models.domain.decision import Trigger
from models.domain.events import Click, Context, Dwell, Request, UserEvent
from models.domain.ids import decision_id
from models.domain.log import LogRecord
from models.domain.policy import Policy

_NO_CONTEXT = Context()


def trigger_of(event: UserEvent, policy: Policy) -> Trigger | None:
    """Return as what an event asks for a decision, if it does."""
    triggers = policy.triggers
    if isinstance(event, Request):
        return "request"
    if isinstance(event, Click) and triggers.after_click:
        return "click"
    if isinstance(event, Dwell) and triggers.after_dwell_ms and event.dwell_ms >= triggers.after_dwell_ms:
        return "dwell"
    return None


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
