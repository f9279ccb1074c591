"""Every exception that Impulse raises on purpose.

ImpulseError
├── SettingError      a wrong setting; stops the start
├── BadRecord         one record that cannot be used; goes to the dead-letter topic
├── ArtifactError     a model or catalogue file that is missing, damaged or of another schema
└── LogError          a recorded log or topic that cannot be read or written
"""

from __future__ import annotations


class ImpulseError(Exception):
    """Base of all errors that Impulse raises on purpose."""

    @classmethod
    def expected(cls, what: str, *, got: object, expected: str, fix: str) -> ImpulseError:
        """Build the house message: what is wrong, what was found, what was expected, what to do."""
        return cls(f"{what}: got {got!r}, expected {expected}. Fix: {fix}.")


class SettingError(ImpulseError):
    """A setting that cannot work; raised before the flow starts."""


class ArtifactError(ImpulseError):
    """A model or catalogue artifact that is missing, damaged or of another schema."""


class LogError(ImpulseError):
    """A recorded log or topic that cannot be read or written as asked."""


class BadRecord(ImpulseError):  # noqa: N818 - it names the record, as a dead letter does
    """One record that cannot be used.

    ``reason`` is a short stable code for counting (``not_json``, ``unknown_type``, ``bad_value``,
    ``too_large``, ``future``, ...); the message says what was wrong with this one.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
