"""Commands on ads' content, as a user calls them: train --content, evaluate cold, embed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from support.encoders import picture, save_tiny_clip, sentence_model
from typer.testing import CliRunner

from flows.cli import app
from flows.cold import ColdOptions, evaluate_cold, label
from models.domain.catalogue import Ad
from models.domain.errors import LogError, SettingError
from models.scorer.artifact import read_manifest
from models.scorer.serving import open_scorer

DATA = Path(os.environ.get("IMPULSE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
TOPICS = ("wine cheese grape", "motor wheel brake", "beach sun hotel")
STEPS = ColdOptions(share=0.25, draws=1, steps=40)


def impulse(*words, as_json=True):
    words = [*map(str, words), *(["--json"] if as_json else [])]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1]) if as_json else done.stdout


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    """Users who keep to one of three topics; an item's title tells its topic."""
    folder, draw = tmp_path_factory.mktemp("topics"), np.random.default_rng(0)
    items = ["item_id:token\ttitle:token_seq"] + [f"{i}\t{TOPICS[i % 3]} {i}" for i in range(48)]
    (folder / "x.item").write_text("\n".join(items) + "\n")
    lines = [f"{user} {i * 3 + user % 3}" for user in range(240) for i in draw.permutation(16)[:8]]
    (folder / "pairs").write_text("\n".join(lines) + "\n")
    return folder


def test_an_item_hidden_from_training_is_found_by_its_title_and_not_by_its_id(topics):
    told = evaluate_cold(topics / "pairs", "pairs", topics / "x.item", ("ids", "hashed"), STEPS)
    rows = told["rows"]
    assert list(rows) == ["similarity:hashed", "ids", "hashed"]
    assert rows["ids"]["cold"]["auc"] == pytest.approx(0.5, abs=0.15)
    assert rows["hashed"]["cold"]["auc"] > 0.7
    gain, error = rows["hashed"]["gain"]["cold"]["auc"]
    assert gain > 2 * error > 0


def test_the_same_draws_and_steps_give_the_same_figures(topics):
    options = ColdOptions(share=0.25, draws=1, steps=5, seed=3)
    one, two = (
        evaluate_cold(topics / "pairs", "pairs", topics / "x.item", ("tfidf",), options) for _ in "ab"
    )
    for told in (one, two):
        told["rows"]["tfidf"].pop("cpu_minutes")
    assert one == two


def test_the_cold_table_is_one_command(topics):
    words = ("evaluate", "cold", "--interactions", topics / "pairs", "--items", topics / "x.item")
    words += ("--encoder", "category", "--draws", 1, "--minutes", 0.02)
    told = impulse(*words)
    assert set(told["rows"]) == {"category"}
    assert told["items"] == 48
    assert "| category | " in impulse(*words, as_json=False)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("--share", 0.9), SettingError, "--share"),
        (("--encoder", "/no/such/folder"), SettingError, "no such folder"),
    ],
)
def test_a_cold_table_that_cannot_be_made_is_refused(topics, words, error, message):
    with pytest.raises(error, match=message):
        impulse("evaluate", "cold", "--interactions", topics / "pairs", "--items", topics / "x.item", *words)


def test_items_without_any_text_are_refused_by_encoders_that_read_it(topics, tmp_path):
    (tmp_path / "bare.item").write_text("item_id:token\n" + "".join(f"{i}\n" for i in range(48)))
    with pytest.raises(SettingError, match="items with titles"):
        evaluate_cold(topics / "pairs", "pairs", tmp_path / "bare.item", ("hashed",), STEPS)


@pytest.mark.parametrize(
    ("name", "kind"), [("default", "hashed_text"), ("tfidf", "hashed_text"), ("none", None)]
)
def test_a_model_is_trained_with_the_encoder_that_is_named(topics, tmp_path, name, kind):
    impulse(
        "train", "--interactions", topics / "pairs", "--items", topics / "x.item", "--content", name,
        "--out", tmp_path, "--minutes", 0.02,
    )  # fmt: skip
    manifest = read_manifest(tmp_path)
    assert (manifest["content"] or {}).get("kind") == kind
    assert bool(manifest["config"]["content_dim"]) == (kind is not None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_model_with_a_sentence_encoder_is_trained_ranked_and_served(topics, tmp_path):
    files = ("--interactions", topics / "pairs", "--items", topics / "x.item")
    impulse("train", *files, "--content", sentence_model(), "--out", tmp_path / "m", "--minutes", 0.1)
    assert read_manifest(tmp_path / "m")["config"]["content_dim"] > 100
    assert impulse("evaluate", "ranking", "--model", tmp_path / "m", *files)["users"] == 240
    ads = [Ad(ad_id="new", campaign_id="c", title="wine cheese grape"), Ad(ad_id="mute", campaign_id="c")]
    from models.domain.catalogue import Catalogue

    index = open_scorer(tmp_path / "m").index(Catalogue().upsert(ads))
    assert not np.allclose(index.vectors[0], index.vectors[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_sentence_encoder_has_a_row_in_the_cold_table(topics):
    folder = str(sentence_model())
    told = evaluate_cold(topics / "pairs", "pairs", topics / "x.item", ("ids", folder), STEPS)
    name = label(folder)
    assert folder.endswith(name)
    assert told["rows"][name]["cold"]["auc"] > 0.7
    assert told["rows"][f"similarity:{name}"]["cold"]["auc"] > 0.7


@pytest.mark.slow
def test_on_real_titles_content_beats_ids_for_items_never_shown():
    files = (DATA / "ml-100k" / "ml-100k.inter.gz", DATA / "ml-100k" / "ml-100k.item")
    if not files[0].exists():
        pytest.skip("no ml-100k under IMPULSE_TEST_DATA")
    options = ColdOptions(draws=1, minutes=0.2)
    told = evaluate_cold(files[0], "recbole", files[1], ("ids", "hashed"), options)["rows"]
    gain, error = told["hashed"]["gain"]["cold"]["auc"]
    assert gain > 4 * error
    assert told["hashed"]["cold"]["auc"] > 0.65


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Images of three ads, one of them unreadable, and a file of ads."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "images").mkdir()
    (folder / "images" / "red.png").write_bytes(picture((220, 30, 30)))
    (folder / "images" / "blue.JPG").write_bytes(picture((30, 30, 220), form="JPEG"))
    (folder / "images" / "broken.png").write_bytes(b"none")
    (folder / "images" / "notes.txt").write_text("no image")
    ads = [{"ad_id": name, "campaign_id": "c"} for name in ("red", "broken", "plain")]
    (folder / "ads.jsonl").write_text("".join(json.dumps(ad) + "\n" for ad in ads))
    return folder


def test_without_images_there_is_nothing_to_embed(tmp_path):
    with pytest.raises(LogError, match="AD_ID"):
        impulse("embed", tmp_path, "--encoder", tmp_path, "--out", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
class TestEmbed:
    @pytest.fixture(scope="class")
    def clip(self, tmp_path_factory):
        return save_tiny_clip(tmp_path_factory.mktemp("clip"))

    def test_images_become_the_vectors_of_ads(self, shop, clip, tmp_path):
        words = ("--encoder", clip, "--ads", shop / "ads.jsonl", "--out", tmp_path / "out")
        told = impulse("embed", shop / "images", *words)
        assert told == {"images": 3, "embedded": 1, "unreadable": 1, "lines": 3, "width": 16}
        ads = {ad["ad_id"]: ad for ad in map(json.loads, (tmp_path / "out").read_text().splitlines())}
        assert np.linalg.norm(ads["red"]["vector"]) == pytest.approx(1, abs=1e-5)
        assert "vector" not in ads["broken"]
        assert "vector" not in ads["plain"]

    def test_without_a_file_of_ads_every_image_has_a_line(self, shop, clip, tmp_path):
        impulse("embed", shop / "images", "--encoder", clip, "--out", tmp_path / "out")
        lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
        assert [line["ad_id"] for line in lines] == ["blue", "red"]

    def test_a_line_that_is_no_ad_is_named(self, shop, clip, tmp_path):
        (tmp_path / "ads").write_text('{"ad_id": "red"}\n')
        with pytest.raises(LogError, match="ads line 1"):
            impulse(
                "embed", shop / "images", "--encoder", clip, "--ads", tmp_path / "ads",
                "--out", tmp_path / "out",
            )  # fmt: skip
