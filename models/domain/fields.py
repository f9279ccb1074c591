"""The types of the records' fields: a value outside of them is refused when the record is read.

Every number has bounds within which the arrays, products and snapshots that it goes into hold it.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

TEN_YEARS_S = 315_360_000
LARGEST = 2**63 - 1
"""The largest number that arrays and snapshots hold."""

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Label = Annotated[str, Meta(max_length=128)]
Key = Annotated[str, Meta(max_length=257)]
"""Two labels with a ``|`` between them."""
LongKey = Annotated[str, Meta(max_length=386)]
"""Three of them."""
Text = Annotated[str, Meta(max_length=4096)]
EpochMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="UTC milliseconds since 1970")]
Micros = Annotated[int, Meta(ge=0, le=10**15, description="millionths of the account's currency")]
Seconds = Annotated[int, Meta(ge=0, le=TEN_YEARS_S)]
PositiveSeconds = Annotated[int, Meta(ge=1, le=TEN_YEARS_S)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=LARGEST)]
Version = Annotated[int, Meta(ge=1, le=LARGEST)]
Int64 = Annotated[int, Meta(ge=-LARGEST - 1, le=LARGEST)]
