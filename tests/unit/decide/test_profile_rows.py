"""A row given to a new user holds nothing of the last one, whether it was cleaned or never used."""

import numpy as np

from models.decide.profiles import Profiles
from models.domain.events import Click, Impression


def filled(profiles: Profiles, row: int) -> None:
    profiles.open(row)
    for kind in (Impression, Click):
        event = kind(id="e", event_time=1000, user_id="u", ad_id="a")
        profiles.collect(row, event, None)
    profiles.show(row, event, None, "", -1, 0)
    profiles.apply()


def content(profiles: Profiles, rows: int) -> dict[str, object]:
    return profiles.dump(rows)


def test_a_row_is_blank_when_it_is_given_out_again():
    used, fresh = Profiles(8), Profiles(8)
    filled(used, 0)
    assert content(used, 1) != content(fresh, 1)
    used.open(0)
    assert content(used, 1) == content(fresh, 1)


def test_rows_beyond_the_first_ones_are_blank_after_the_tables_grew():
    used, fresh = Profiles(8), Profiles(8)
    for row in range(40):
        filled(used, row)
    used.open(40)
    fresh.open(40)
    assert (used.history.count[40:] == 0).all() and (used.windows.value[40:] == 0).all()
    assert (used.history.count[:40] == 1).all()


def test_a_row_loaded_from_a_snapshot_is_cleaned_before_its_next_user():
    used, resumed, fresh = Profiles(8), Profiles(8), Profiles(8)
    filled(used, 0)
    resumed.load(used.dump(1), 1)
    resumed.open(0)
    assert content(resumed, 1) == content(fresh, 1)


def test_every_occupant_of_a_row_has_a_generation_of_their_own():
    profiles = Profiles(8)
    profiles.open(3)
    first = int(profiles.history.generation[3])
    profiles.open(3)
    assert int(profiles.history.generation[3]) != first
    assert np.unique(profiles.history.generation[profiles.history.generation > 0]).size == 1


def test_a_late_impression_waits_to_be_applied_and_leaves_windows_and_sequence_alone():
    profiles = Profiles(8)
    profiles.open(0)
    event = Impression(id="e", event_time=1000, user_id="u", ad_id="a")
    profiles.collect(0, event, None, late=True)
    profiles.show(0, event, None, "", -1, 0)
    assert profiles.collected == 1
    profiles.apply()
    assert (profiles.collected, int(profiles.shown.users.filled[0])) == (0, 1)
    assert profiles.history.count[0] == 0 and (profiles.windows.value[0] == 0).all()
