"""`impulse creatives` and `impulse review`, as a user calls them, up to the decision that shows one."""

import json

import msgspec
import pytest
from support.encoders import save_tiny_language_model
from support.shards import Bench, LogBuilder, bodies, run
from typer.testing import CliRunner

from connectors.ad_files import read_ads
from flows.cli import app
from models.domain import events
from models.domain.catalogue import Ad, Creative, review_of
from models.domain.decision import Decision
from models.domain.errors import BadRecord, LogError, SettingError
from models.policy.creative_llm import LanguageModelGenerator

SHOES = Ad(ad_id="shoes", campaign_id="c", title="Trail shoes", text="Light and dry.", category="sports")
BOOTS = Ad(ad_id="boots", campaign_id="c", title="Boots", creatives=(Creative(creative_id="own"),))


def impulse(*words, code=0):
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def told(*words):
    return json.loads(impulse(*words, "--json").splitlines()[-1])


def save(file, *ads):
    file.write_bytes(b"".join(msgspec.json.encode(ad) + b"\n" for ad in ads))
    return file


@pytest.fixture
def ads(tmp_path):
    return save(tmp_path / "ads.jsonl", SHOES, BOOTS)


@pytest.fixture
def grown(ads, tmp_path):
    told("creatives", "--ads", ads, "--out", tmp_path / "grown.jsonl", "--count", 2)
    return tmp_path / "grown.jsonl"


def shown(ads, decisions=60):
    """The headlines that a shard shows of these ads."""
    log = LogBuilder()
    log.add(events.AdUpsert, ads=tuple(ads))
    for n in range(decisions):
        log.request(f"u{n}")
    slots = [slot for made in bodies(run(Bench().shard(), log.records), Decision) for slot in made.ads]
    return {(slot.presentation.headline, slot.generated) for slot in slots if slot.ad_id == "shoes"}


def test_every_ad_gets_creatives_from_its_text_that_wait_for_a_review(ads, tmp_path):
    figures = told("creatives", "--ads", ads, "--out", tmp_path / "out", "--count", 2)
    assert figures == {"ads": 2, "ads_grown": 2, "generated": 4, "pending": 4}
    shoes, boots = read_ads(tmp_path / "out")
    assert [c.headline for c in shoes.creatives] == ["{title}", "Trail shoes", "Trail shoes – Light and dry"]
    assert [review_of(c) for c in shoes.creatives] == ["approved", "pending", "pending"]
    assert [c.generated for c in boots.creatives] == [False, True, True]


def test_generating_again_adds_nothing(grown, tmp_path):
    figures = told("creatives", "--ads", grown, "--out", tmp_path / "again", "--count", 2)
    assert (figures["ads_grown"], figures["generated"]) == (0, 0)
    assert (tmp_path / "again").read_bytes() == grown.read_bytes()


def test_a_generated_creative_is_shown_once_it_is_approved_and_says_that_it_is_generated(grown, tmp_path):
    assert shown(read_ads(grown)) == {("Trail shoes", False)}
    waiting = told("review", "--ads", grown)["pending"]
    (key,) = [one["key"] for one in waiting if one["headline"] == "Trail shoes – Light and dry"]
    figures = told("review", "--ads", grown, "--out", tmp_path / "out", "--approve", key, "--reject", "all")
    assert figures == {"ads": 2, "approved": 1, "rejected": 3, "pending": 0}
    assert shown(read_ads(tmp_path / "out")) == {
        ("Trail shoes", False),
        ("Trail shoes – Light and dry", True),
    }


def test_a_generated_creative_without_a_review_waits_until_it_is_approved(tmp_path):
    untold = Creative(creative_id="x", headline="New: {title}", generated=True)
    file = save(tmp_path / "ads", msgspec.structs.replace(SHOES, creatives=(untold,)))
    assert [one["key"] for one in told("review", "--ads", file)["pending"]] == ["shoes/x"]
    told("review", "--ads", file, "--out", tmp_path / "out", "--approve", "all")
    assert told("review", "--ads", tmp_path / "out")["pending"] == []
    assert shown(read_ads(tmp_path / "out")) == {("New: Trail shoes", True)}


def test_creatives_that_wait_are_listed_as_they_would_be_shown(tmp_path):
    pending = Creative(creative_id="x", headline="New: {title}", review="pending")
    file = save(tmp_path / "ads", msgspec.structs.replace(SHOES, creatives=(pending,)))
    (one,) = told("review", "--ads", file)["pending"]
    assert (one["key"], one["headline"]) == ("shoes/x", "New: Trail shoes")
    assert "shoes/x" in impulse("review", "--ads", file)
    assert "no creative waits" in impulse("review", "--ads", save(tmp_path / "none", SHOES))


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("--approve", "shoes/nothing"), SettingError, "got 'shoes/nothing', expected AD_ID/CREATIVE_ID"),
        (("--approve", "boots/own", "--reject", "boots/own"), SettingError, "approved and rejected"),
    ],
)
def test_a_review_that_cannot_be_meant_is_refused_and_writes_nothing(grown, tmp_path, words, error, message):
    with pytest.raises(error, match=message):
        told("review", "--ads", grown, "--out", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_a_review_needs_a_file_to_write(grown):
    with pytest.raises(SettingError, match="give --out FILE"):
        told("review", "--ads", grown, "--approve", "all")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", LogError, "no ads"),
        ('{"ad_id": "a"}\n', LogError, "line 1"),
        ('\n{"ad_id": "a", "campaign_id": "c"}\nnonsense\n', LogError, "line 3"),
        (
            '{"ad_id": "a", "campaign_id": "c", "creatives": [{"creative_id": "x", "headline": "{titel}"}]}',
            BadRecord,
            "unknown slot {titel}",
        ),
    ],
)
def test_a_file_that_holds_no_usable_ads_is_refused(tmp_path, text, error, message):
    (tmp_path / "ads").write_text(text)
    with pytest.raises(error, match=message):
        told("creatives", "--ads", tmp_path / "ads", "--out", tmp_path / "out")


def test_a_missing_file_an_unknown_generator_and_a_bad_count_are_refused(ads, tmp_path):
    with pytest.raises(LogError, match="nowhere"):
        told("creatives", "--ads", tmp_path / "nowhere", "--out", tmp_path / "out")
    with pytest.raises(LogError, match="can be written"):
        told("creatives", "--ads", ads, "--out", tmp_path / "no" / "out")
    with pytest.raises(SettingError, match="template, or the folder"):
        told("creatives", "--ads", ads, "--out", tmp_path / "out", "--generator", tmp_path)
    impulse("creatives", "--ads", ads, "--out", tmp_path / "out", "--count", 0, code=2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_local_language_model_writes_creatives_that_wait_like_all_others(ads, tmp_path):
    prompts: list[str] = []
    for ad in (SHOES, BOOTS):
        LanguageModelGenerator(lambda prompt, _: prompts.append(prompt) or "").generate(ad, 2)
    model = save_tiny_language_model(tmp_path / "model", prompts, ["run further", "stay dry"])
    words = ("creatives", "--ads", ads, "--generator", model, "--count", 2)
    figures = told(*words, "--out", tmp_path / "out")
    assert figures == {"ads": 2, "ads_grown": 2, "generated": 4, "pending": 4}
    shoes = next(iter(read_ads(tmp_path / "out")))
    assert [c.headline for c in shoes.creatives] == ["{title}", "run further", "stay dry"]
    told(*words, "--out", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "out").read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_holds_no_language_model_is_refused(ads, tmp_path):
    pytest.importorskip("transformers", reason="needs the extra `creatives`")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SettingError, match="causal language model"):
        told("creatives", "--ads", ads, "--out", tmp_path / "out", "--generator", tmp_path)
