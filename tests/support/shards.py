"""Shards in memory, and logs for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from models.decide.decider import Decider
from models.decide.shard import Place, Shard, ShardBounds
from models.decide.views import ViewBuilder
from models.domain import events
from models.domain.catalogue import Ad, Creative
from models.domain.errors import ArtifactError
from models.domain.ids import content_hash, decision_id
from models.domain.log import Emission, LogRecord, Received
from models.scorer.interface import Scorer
from models.scorer.popularity import PopularityScorer

TOPIC = "ads.events.v1"
START = 1_700_000_000_000


@dataclass
class MemoryResources:
    """Artifacts and blobs in dictionaries."""

    scorers: dict[str, Scorer] = field(default_factory=dict)
    catalogues: dict[str, tuple[Ad, ...]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def scorer(self, model_hash: str) -> Scorer:
        if model_hash not in self.scorers:
            raise ArtifactError(f"no model {model_hash}")
        return self.scorers[model_hash]

    def ads(self, artifact: str) -> tuple[Ad, ...]:
        if artifact not in self.catalogues:
            raise ArtifactError(f"no catalogue {artifact}")
        return self.catalogues[artifact]

    def keep(self, data: bytes) -> str:
        name = content_hash(data)
        self.blobs[name] = data
        return name

    def kept(self, name: str) -> bytes:
        return self.blobs[name]

    def drop(self, name: str) -> None:
        self.blobs.pop(name, None)


class Bench:
    """Makes shards that share what the shards of one process share."""

    def __init__(self, scorer: Scorer | None = None, bounds: ShardBounds | None = None) -> None:
        self.resources = MemoryResources()
        self.views = ViewBuilder(scorer or PopularityScorer(), self.resources, 160)
        self.decider = Decider(self.views)
        self.bounds = bounds or ShardBounds()

    def shard(self, partition: int = 0, slice_: int = 0) -> Shard:
        return Shard(Place(TOPIC, partition, slice_), self.views, self.decider, self.bounds)


class LogBuilder:
    """Writes records one after another, a second apart unless told otherwise."""

    def __init__(self, partition: int = 0) -> None:
        self.partition = partition
        self.now = START
        self.records: list[Received] = []

    def add(
        self, kind: type, *, after_s: float = 1.0, event_time: int | None = None, **fields: object
    ) -> str:
        """Append an event; return the id of the decision that it would cause."""
        self.now += int(after_s * 1000)
        offset = len(self.records)
        fields.setdefault("id", f"e{self.partition}-{offset}")
        event = kind(event_time=self.now if event_time is None else event_time, **fields)
        self.records.append(Received(LogRecord(TOPIC, self.partition, offset, self.now, None, b"{}"), event))
        return decision_id(TOPIC, self.partition, offset)

    def ads(self, count: int = 3, **fields: object) -> str:
        ads = tuple(Ad(**{"ad_id": f"a{n}", "campaign_id": f"c{n}", **fields}) for n in range(count))
        return self.add(events.AdUpsert, ads=ads)

    def request(self, user_id: str = "u", **fields: object) -> str:
        return self.add(events.Request, user_id=user_id, **fields)


def bodies(emissions: Sequence[Emission], kind: type) -> list:
    return [e.body for e in emissions if isinstance(e.body, kind)]


def run(shard: Shard, records: Sequence[Received], sizes: Sequence[int] = (10**9,)) -> list[Emission]:
    """Process records in batches of these sizes, again and again; return all emissions."""
    out: list[Emission] = []
    position, turn = 0, 0
    while position < len(records):
        size = sizes[turn % len(sizes)]
        out += shard.process(records[position : position + size])
        position, turn = position + size, turn + 1
    return out


@st.composite
def logs(draw: st.DrawFn) -> list[Received]:
    """Draw a log in which few users and ads meet often, in and out of order, with control records."""
    log = LogBuilder()
    log.ads(4, category="shoes")
    decisions = [("u0", "never-made-0-0")]
    for _ in range(draw(st.integers(1, 40))):
        user = f"u{draw(st.integers(0, 4))}"
        ad = f"a{draw(st.integers(0, 5))}"
        after = draw(st.sampled_from([0.0, 0.5, 3.0, 70.0, 4000.0, 50_000.0]))
        often = ["request", "request", "feedback", "feedback"]
        match draw(st.sampled_from([*often, "dwell", "view", "control"])):
            case "request":
                decisions.append((user, log.request(user, after_s=after)))
            case "feedback":
                user, decision = draw(st.sampled_from(decisions[-4:]))
                kind = draw(
                    st.sampled_from([events.Impression, events.Click, events.Conversion, events.Hide])
                )
                early = draw(st.sampled_from([0, 0, 5_000, 90_000_000]))
                named = draw(st.sampled_from([decision, decision, None]))
                log.add(
                    kind, after_s=after, user_id=user, ad_id=ad, decision_id=named,
                    event_time=log.now + int(after * 1000) - early,
                )  # fmt: skip
            case "dwell":
                log.add(events.Dwell, after_s=after, user_id=user, ad_id=ad, dwell_ms=4000)
            case "view":
                log.add(events.View, after_s=after, user_id=user, ad_id=ad)
            case "control":
                _draw_control(draw, log, user, ad)
    return log.records


def _draw_control(draw: st.DrawFn, log: LogBuilder, user: str, ad: str) -> None:
    match draw(st.integers(0, 4)):
        case 0:
            log.add(events.Erasure, user_id=user)
        case 1:
            log.add(events.AdWithdraw, ad_ids=(ad,))
        case 2:
            creatives = {f"{ad}|x0": (0.4, 0.05)}
            log.add(events.Adjustments, version=len(log.records), ads={ad: (0.5, 0.1)}, creatives=creatives)
        case 3:
            shown = tuple(Creative(creative_id=f"x{n}") for n in range(3))
            changed = Ad(ad_id=ad, campaign_id="c9", bid_micros=2_000_000, creatives=shown)
            log.add(events.AdUpsert, ads=(changed,))
        case 4:
            stopped = draw(st.sampled_from([("c0", "c1", "c2", "c3"), ("c0",), ()]))
            log.add(
                events.Pacing, version=len(log.records) + 1, multipliers={"c1": 0.7}, exhausted=stopped,
                lifetime_exhausted=stopped[:1],
            )  # fmt: skip
