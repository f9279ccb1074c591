"""Random ads and situations for the property tests of the rules."""

from hypothesis import strategies as st

from models.domain.catalogue import Ad, Catalogue, Creative
from models.domain.events import Context
from models.domain.policy import Policy
from models.policy.eligibility import Situation

ADVERTISERS = ("", "v1", "v2")
CATEGORIES = ("", "cars", "food", "games")
LABELS = ("alcohol", "games", "separate:cars", "separate:bank")
PLACEMENTS = ("home", "feed")
TARGETS = ("", 'country == "de"', 'device == "mobile" and hour < 12', 'country in ("at",', "city == 1")
CREATIVES = tuple(
    (Creative(creative_id="x", review=review),) for review in ("approved", "pending", "rejected")
)

times = st.integers(0, 100)


def sets_of(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


ads = st.builds(
    Ad,
    ad_id=st.integers(0, 80).map("a{}".format),
    campaign_id=st.integers(0, 8).map("c{}".format),
    advertiser_id=st.sampled_from(ADVERTISERS),
    category=st.sampled_from(CATEGORIES),
    labels=sets_of(LABELS),
    targeting=st.sampled_from(TARGETS),
    placements=sets_of(PLACEMENTS),
    start_time=st.none() | times,
    end_time=st.none() | times,
    creatives=st.just(()) | st.sampled_from(CREATIVES),
)
catalogues = st.lists(ads, max_size=80).map(lambda found: Catalogue().upsert(found) if found else Catalogue())
policies = st.builds(
    Policy,
    blocked_categories=sets_of(("games", "alcohol", "")),
    blocked_advertisers=sets_of(ADVERTISERS),
)
contexts = st.builds(
    Context,
    country=st.sampled_from(("de", "at")),
    device=st.sampled_from(("mobile", "tv")),
    blocked_categories=sets_of((*CATEGORIES, "alcohol")),
)
situations = st.builds(
    Situation,
    placement_id=st.sampled_from(PLACEMENTS),
    context=contexts,
    event_time=times,
    exhausted=st.frozensets(st.integers(0, 9).map("c{}".format), max_size=3),
)
