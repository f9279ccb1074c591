"""What shards keep of the pacing that the log tells."""

from models.decide.view import PacingTable
from models.domain.events import Pacing


def told(version: int, **fields) -> Pacing:
    return Pacing(id=f"pacing-{version}", event_time=0, version=version, **fields)


def test_campaigns_that_are_held_back_no_more_take_no_room():
    table = PacingTable().apply(told(1, multipliers={"c": 0.5, "d": 0.7}))
    table = table.apply(told(2, multipliers={"c": 0.0, "e": 0.0}))
    assert table.multipliers == {"d": 0.7}


def test_pieces_of_a_record_lift_what_they_say_too():
    table = PacingTable().apply(told(1, multipliers={"c": 0.5, "d": 0.7}))
    table = table.apply(told(2, multipliers={"c": 0.0}, unfinished=True))
    assert table.multipliers == {"d": 0.7}
    assert table.apply(told(2, multipliers={"d": 0.0}, more=True)).multipliers == {}


def test_a_reset_forgets_the_multipliers_of_before():
    table = PacingTable().apply(told(1, multipliers={"c": 0.5, "d": 0.7}))
    assert table.apply(told(2, reset=True, multipliers={"d": 0.9})).multipliers == {"d": 0.9}
