"""Interactions and logs as table rows, split by time into what is learned and what is held out.

Legend: N events, U users, A ads or items, V known ads (rows 1..V), F content width.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from models.domain.errors import LogError
from models.domain.events import KINDS
from models.domain.ids import NO_KEY

from .config import ModelConfig
from .delays import Clicks, arrived_shares
from .features import NO_TIME, category_rows, event_rows, vocabulary_rows, wait_rows
from .sequences import (
    F32,
    I64,
    NEVER,
    U64,
    AdTable,
    Bools,
    Dataset,
    Interactions,
    Labels,
    LogExamples,
    hash_arrays,
    item_keys,
)

MOST_SEGMENTS = 256
"""Segments of their own; the others count as unknown."""
EVENT_COLUMNS = ("ad", "category", "kind", "dwell", "gap", "wait", "target")
LARGEST_SCORES = 50_000_000
"""Scores of held-out users times ads that are held in memory at once."""

SETTLED = 0.99
"""Impressions as young as this quantile of clicks' waits may still be clicked, and are left out."""

HOLDOUT_HISTORY = 200
"""Events kept before each held-out click; more than any default network sees."""


@dataclass(frozen=True)
class Buckets:
    """Rows of the feature tables (fields of ModelConfig)."""

    categories: int = 1024
    dwell: int = 20
    gap: int = 24

    @classmethod
    def of(cls, config: ModelConfig) -> Buckets:
        """Return the rows that a network of this config has."""
        return cls(config.categories, config.dwell_buckets, config.gap_buckets)


@dataclass(frozen=True, eq=False)
class Holdout:
    """Later events to measure on: users' histories and what came next.

    ``users`` `[B]` index the history's users; ``target`` `[B]` are rows of the ad table. ``labels`` are
    impressions whose positions belong to ``labels_history``, None where there is nothing to judge on them.
    """

    history: Dataset
    users: I64
    target: I64
    drop_seen: bool
    labels_history: Dataset | None = None

    def sample(self, count: int) -> Holdout:
        """Return at most ``count`` of the users, evenly spread; fewer where all scores would not fit."""
        count = min(count, max(50, LARGEST_SCORES // len(self.history.category_of)))
        step = -(-max(len(self.users), 1) // count)
        return replace(self, users=self.users[::step], target=self.target[::step])


@dataclass(frozen=True, eq=False)
class Stays:
    """The clicks of a log with a known dwell, ``dwell_ms`` `[N]`; they are the labels of ``clicked``."""

    clicked: Dataset
    dwell_ms: I64


@dataclass(frozen=True, eq=False)
class Split:
    """What `training.train` takes: the data, what is held out, and the vocabulary (ascending keys)."""

    train: Dataset
    holdout: Holdout
    vocabulary: U64
    data_hash: str
    segments: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Keys of the segments that the impressions' rows stand for, ascending."""
    campaigns: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Keys of the campaigns by their number in ``train.campaign_of`` less 1, ascending."""
    stays: Stays | None = None


def table_of(vocabulary: U64, ads: AdTable, content: F32, categories: int) -> tuple[I64, F32]:
    """Return category rows `[V + 1]` and content vectors `[V + 1, F]` of the ad table's rows."""
    rows = vocabulary_rows(vocabulary, ads.key)
    category = np.zeros(len(vocabulary) + 1, np.int64)
    category[rows] = category_rows(ads.category_key, categories)
    vectors = np.zeros((len(vocabulary) + 1, content.shape[1]), np.float32)
    vectors[rows] = content
    category[0], vectors[0] = 0, 0
    return category, vectors


def from_interactions(interactions: Interactions, ads: AdTable, content: F32, buckets: Buckets) -> Split:
    """Hold out each user's last item (test) and the one before it (validation); learn from the rest.

    ``ads`` and ``content`` `[A, F]` are in the order of ``interactions.item_ids``. The vocabulary is the
    items that are learned from: a row of its own that nothing trains would be noise, where "unknown" with
    content and category is a sensible guess. Targets outside of it are not validated on.

    Raises
    ------
    LogError
        where no user has two events to learn from.

    """
    train, validation = interactions.without_last(2), interactions.without_last(1)
    if np.diff(train.offsets).max(initial=0) < 2:
        raise LogError.expected(
            "interactions to learn from",
            got=f"{len(interactions.item)} of {len(interactions)} users, at most "
            f"{np.diff(interactions.offsets).max(initial=0)} of one",
            expected="a user with at least two events beside the last two, which are held out",
            fix="give longer histories",
        )
    vocabulary = np.unique(ads.key[np.unique(train.item)])
    rows = vocabulary_rows(vocabulary, ads.key)
    dataset = _interaction_dataset(train, rows, vocabulary, ads, content, buckets)
    users = np.flatnonzero(np.diff(train.offsets) > 0)
    target = rows[validation.last()[users]]
    holdout = Holdout(dataset, users[target > 0], target[target > 0], drop_seen=True)
    return Split(dataset, holdout, vocabulary, interactions.data_hash)


def interactions_as_dataset(
    interactions: Interactions, vocabulary: U64, ads: AdTable, content: F32, buckets: Buckets
) -> Dataset:
    """Return whole interactions as rows of a trained model's tables; unknown items are row 0."""
    rows = vocabulary_rows(vocabulary, item_keys(interactions.item_ids))
    return _interaction_dataset(interactions, rows, vocabulary, ads, content, buckets)


def _interaction_dataset(
    interactions: Interactions, rows: I64, vocabulary: U64, ads: AdTable, content: F32, buckets: Buckets
) -> Dataset:
    count = len(interactions.item)
    times = np.zeros(count, np.int64) if interactions.time_ms is None else interactions.time_ms
    category, dwell, gap = event_rows(
        ads.category_key[interactions.item],
        np.zeros(count, np.int64),
        times,
        _first(interactions.offsets),
        buckets.categories,
        buckets.dwell,
        buckets.gap,
    )
    ad = rows[interactions.item]
    known = vocabulary_rows(vocabulary, ads.key) > 0
    chosen = AdTable(ads.key[known], ads.category_key[known])
    category_of, vectors = table_of(vocabulary, chosen, content[known], buckets.categories)
    kind = np.full(count, KINDS.index("click"), np.int64)
    wait = _waits(interactions.offsets, gap)
    if interactions.next_ms is not None:
        asked = np.flatnonzero((np.diff(interactions.offsets) > 0) & (interactions.next_ms != NEVER))
        last = interactions.offsets[1:][asked] - 1
        wait[last] = wait_rows(interactions.next_ms[asked], times[last], buckets.gap)
    return Dataset(interactions.offsets, ad, category, kind, dwell, gap, wait, ad > 0, category_of, vectors)


def _waits(offsets: I64, gap: I64) -> I64:
    """Return the row `[N]` of the time from each event to its user's next, 0 where none follows."""
    wait = np.append(gap[1:], 0)
    wait[offsets[1:][np.diff(offsets) > 0] - 1] = 0
    return wait


def from_log(examples: LogExamples, content: F32, buckets: Buckets, holdout_share: float = 0.1) -> Split:
    """Learn from the log's first part in time, hold out the last ``holdout_share`` of its span.

    The vocabulary is the ads that occur in the first part; later ones count as unknown, as in serving. Where
    that part has no impression, the later ones' clicks are targets alone: no click logit is learned.
    """
    early, split = _prefixes(examples, holdout_share)
    lengths = np.add.reduceat(np.append(early, False), examples.offsets[:-1]) * (
        np.diff(examples.offsets) > 0
    )
    shown = examples.impression_time_ms <= split
    shown &= examples.impression_position <= lengths[examples.impression_user]
    used = np.concatenate((examples.ad_key[early], examples.impression_ad_key[shown]))
    vocabulary = np.unique(used[used != 0])
    segments = _segments(examples, shown)
    whole = _log_dataset(examples, vocabulary, content, buckets, segments)
    labels = whole.labels
    settled = _settled(examples)
    train = replace(_cut(whole, early), labels=labels.take(np.flatnonzero(shown & settled)))
    later = replace(whole, labels=labels.take(np.flatnonzero(~shown & settled)))
    holdout = _log_holdout(later)
    if len(train.labels) == 0:
        holdout = replace(holdout, labels_history=None)
    campaigns = examples.ads.campaign_key
    keys = np.zeros(0, np.uint64) if campaigns is None else np.unique(campaigns)
    return Split(train, holdout, vocabulary, _hash(examples), segments, keys, _stays(examples, whole))


def _stays(examples: LogExamples, whole: Dataset) -> Stays | None:
    """Return the clicks with a known dwell, old enough that nearly all dwells had time to end.

    Of clicks shortly before the log's end only short stays are known, which would bias what is learned.
    """
    if examples.stay_ms is None or examples.click_time_ms is None:
        return None
    rows = np.flatnonzero(examples.stay_ms != NEVER)
    if len(rows) == 0:
        return None
    stay = examples.stay_ms[rows]
    done = examples.click_time_ms[rows] <= _end_ms(examples) - np.quantile(stay, SETTLED)
    rows = rows[done]
    return Stays(replace(whole, labels=whole.labels.take(rows)), examples.stay_ms[rows])


def _segments(examples: LogExamples, shown: Bools) -> U64:
    """Return the keys of the segments that most impressions were asked for in, ascending."""
    if examples.segment_key is None:
        return np.zeros(0, np.uint64)
    keys, count = np.unique(examples.segment_key[shown], return_counts=True)
    often = keys[np.argsort(-count, kind="stable")]
    return np.sort(often[often != NO_KEY][:MOST_SEGMENTS])


def _log_holdout(later: Dataset) -> Holdout:
    """Return the held-out clicks as targets, each from the history at its decision."""
    clicked = later.labels.take(np.flatnonzero(later.labels.click & (later.labels.ad > 0)))
    windows = impression_windows(later, clicked, HOLDOUT_HISTORY)
    return Holdout(windows, np.arange(len(clicked)), clicked.ad, False, later)


def impression_windows(dataset: Dataset, labels: Labels, length: int) -> Dataset:
    """Return a data set whose "users" are the histories of at most ``length`` events at each impression."""
    end = dataset.offsets[labels.user] + labels.position
    count = np.minimum(labels.position, length)
    offsets = np.concatenate(([0], np.cumsum(count)))
    at = np.repeat(end - count - offsets[:-1], count) + np.arange(offsets[-1])
    columns = {name: getattr(dataset, name)[at] for name in EVENT_COLUMNS}
    columns["wait"][offsets[1:][count > 0] - 1] = labels.wait[count > 0]
    return replace(dataset, offsets=offsets, labels=Labels.none(), **columns)


def _prefixes(examples: LogExamples, holdout_share: float) -> tuple[Bools, int]:
    """Return which events came before the split, and its time; each user's early events are a prefix."""
    low, high = int(examples.time_ms.min()), int(examples.time_ms.max())
    split = high - int((high - low) * holdout_share)
    user = np.repeat(np.arange(len(examples.offsets) - 1), np.diff(examples.offsets))
    latest = np.maximum.accumulate(examples.time_ms - low + user * (high - low + 1))
    return latest - user * (high - low + 1) + low <= split, split


def _log_dataset(
    examples: LogExamples, vocabulary: U64, content: F32, buckets: Buckets, segments: U64
) -> Dataset:
    category, dwell, gap = event_rows(
        examples.category_key,
        examples.dwell_ms.astype(np.int64),
        examples.time_ms,
        _first(examples.offsets),
        buckets.categories,
        buckets.dwell,
        buckets.gap,
    )
    ad = vocabulary_rows(vocabulary, examples.ad_key)
    known = vocabulary_rows(vocabulary, examples.ads.key) > 0
    chosen = AdTable(examples.ads.key[known], examples.ads.category_key[known])
    category_of, vectors = table_of(vocabulary, chosen, content[known], buckets.categories)
    target = examples.targets() & (ad > 0)
    kind = examples.kind.astype(np.int64)
    labels = _labels(examples, vocabulary, buckets, segments)
    return Dataset(
        examples.offsets, ad, category, kind, dwell, gap, _waits(examples.offsets, gap), target, category_of,
        vectors, labels, content, _campaigns(vocabulary, examples.ads),
    )  # fmt: skip


def _campaigns(vocabulary: U64, ads: AdTable) -> I64:
    """Return the number of each table row's campaign `[V + 1]`, 0 where it is unknown."""
    numbers = np.zeros(len(vocabulary) + 1, np.int64)
    if ads.campaign_key is not None:
        numbers[vocabulary_rows(vocabulary, ads.key)] = (
            np.unique(ads.campaign_key, return_inverse=True)[1] + 1
        )
    numbers[0] = 0
    return numbers


def _settled(examples: LogExamples) -> Bools:
    """Return which impressions `[I]` the log outlasted by more than nearly all clicks take to come."""
    if examples.click_time_ms is None or not examples.click.any():
        return np.ones(len(examples.click), np.bool_)
    wait = (examples.click_time_ms - examples.impression_time_ms)[examples.click]
    return examples.impression_time_ms <= _end_ms(examples) - np.quantile(wait, SETTLED)


def _end_ms(examples: LogExamples) -> int:
    return max(int(examples.time_ms.max()), int(examples.impression_time_ms.max(initial=0)))


def _maturity(examples: LogExamples, place: I64) -> F32:
    """Return the share of an impression's conversions `[I]` that the log lasted long enough to see.

    ``place`` `[I]` of the ads, -1 for one without: they count as one campaign.
    """
    click, conversion = examples.click_time_ms, examples.conversion_time_ms
    if click is None or conversion is None:
        return np.ones(len(examples.click), np.float32)
    keys = examples.ads.campaign_key
    numbers = np.zeros(len(examples.ads.key), np.int64)
    if keys is not None:
        numbers = np.unique(keys, return_inverse=True)[1]
    campaign = np.append(numbers, numbers.max(initial=-1) + 1)[place]
    age_s = (_end_ms(examples) - np.where(examples.click, click, examples.impression_time_ms)) / 1000
    delay_s = np.where(examples.conversion, (conversion - click) / 1000, np.inf)
    clicked = examples.click
    known = Clicks(campaign[clicked], age_s[clicked], delay_s[clicked])
    return arrived_shares(known, campaign, age_s).astype(np.float32)


def _labels(examples: LogExamples, vocabulary: U64, buckets: Buckets, segments: U64) -> Labels:
    place = _content_rows(examples)
    category = np.append(category_rows(examples.ads.category_key, buckets.categories), 0)[place]
    return Labels(
        user=examples.impression_user,
        position=examples.impression_position,
        ad=vocabulary_rows(vocabulary, examples.impression_ad_key),
        category=category,
        content_row=place,
        click=examples.click,
        conversion=examples.conversion,
        slot=np.zeros(len(place), np.int64) if examples.slot is None else examples.slot,
        maturity=_maturity(examples, place),
        segment=_segment_rows(examples, segments),
        wait=_label_waits(examples, buckets),
    )


def _content_rows(examples: LogExamples) -> I64:
    """Return the place of each impression's ad `[I]` among the ads, -1 for one that the log did not bring."""
    order = np.argsort(examples.ads.key)
    row = vocabulary_rows(examples.ads.key[order], examples.impression_ad_key)
    return np.append(-1, order)[row]


def _label_waits(examples: LogExamples, buckets: Buckets) -> I64:
    """Return the row `[I]` of the time between the last event before each decision and its request."""
    asked = examples.decision_time_ms
    asked = examples.impression_time_ms if asked is None else asked
    position = examples.impression_position
    place = examples.offsets[examples.impression_user] + position - 1
    last = np.where(position > 0, examples.time_ms[np.maximum(place, 0)], NO_TIME)
    return wait_rows(asked, last, buckets.gap)


def _segment_rows(examples: LogExamples, segments: U64) -> I64:
    """Return the row `[I]` of each impression's segment; one past the last where it is unknown."""
    if examples.segment_key is None:
        return np.zeros(len(examples.click), np.int64)
    rows = vocabulary_rows(segments, examples.segment_key) - 1
    return np.where(rows >= 0, rows, len(segments))


def _cut(dataset: Dataset, keep: Bools) -> Dataset:
    """Return the dataset with these events only; each user keeps a prefix."""
    user = np.repeat(np.arange(len(dataset.offsets) - 1), np.diff(dataset.offsets))
    lengths = np.bincount(user[keep], minlength=len(dataset.offsets) - 1)
    columns = {name: getattr(dataset, name)[keep] for name in EVENT_COLUMNS}
    return replace(dataset, offsets=np.concatenate(([0], np.cumsum(lengths))), **columns)


def _first(offsets: I64) -> I64:
    """Return the place of the first event of each user that has one."""
    return offsets[:-1][np.diff(offsets) > 0]


def _hash(examples: LogExamples) -> str:
    return examples.data_hash or hash_arrays(
        examples.offsets, examples.ad_key, examples.kind, examples.time_ms, examples.click
    )
