"""Creatives: what a generator may do."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.catalogue import MAX_CREATIVES, Ad, Creative, review_of
from models.domain.errors import SettingError
from models.domain.templates import presented
from models.policy.columns import is_presentable
from models.policy.creative_llm import LanguageModelGenerator, local_model, read_headlines
from models.policy.creatives import (
    MAX_CALL_TO_ACTION,
    MAX_HEADLINE,
    TemplateGenerator,
    with_generated,
)
from models.policy.validation import check_ad

SHOES = Ad(
    ad_id="a", campaign_id="c", title="Trail shoes", text="Light and dry. Made to last.", category="sports"
)


def test_templates_are_filled_from_the_catalogue():
    made = TemplateGenerator().generate(SHOES, 5)
    assert [creative.headline for creative in made] == [
        "Trail shoes",
        "Trail shoes – Light and dry",
        "sports: Trail shoes",
        "New: Trail shoes",
        "Discover Trail shoes",
    ]
    assert made[1].call_to_action == "See sports"


def test_what_is_generated_says_so_and_waits_for_its_review():
    made = TemplateGenerator().generate(SHOES, 9)
    assert {(creative.generated, creative.review) for creative in made} == {(True, "pending")}


def test_templates_whose_slots_are_empty_are_passed_over():
    made = TemplateGenerator().generate(Ad(ad_id="a", campaign_id="c", title="Shoes"), 9)
    assert [creative.headline for creative in made] == ["Shoes", "New: Shoes", "Discover Shoes"]
    assert TemplateGenerator().generate(Ad(ad_id="a", campaign_id="c"), 9) == ()


def test_an_ad_without_a_title_has_the_first_sentence_of_its_text_for_one():
    made = TemplateGenerator().generate(
        Ad(ad_id="a", campaign_id="c", text="Light and dry. Made to last."), 9
    )
    assert [one.headline for one in made] == ["Light and dry", "New: Light and dry", "Discover Light and dry"]


texts = st.text(max_size=200)


@given(texts, texts, st.text(max_size=100), st.integers(0, 6))
def test_generated_creatives_are_short_distinct_and_the_same_every_time(title, text, category, count):
    ad = Ad(ad_id="a", campaign_id="c", title=title, text=text, category=category)
    made = TemplateGenerator().generate(ad, count)
    assert made == TemplateGenerator().generate(ad, count)
    assert len({creative.creative_id for creative in made}) == len(made) <= count
    shown = [presented(ad, creative) for creative in made]
    assert all(0 < len(creative.headline) <= MAX_HEADLINE for creative in shown)
    assert all(len(creative.call_to_action) <= MAX_CALL_TO_ACTION for creative in shown)


@given(texts, texts, st.text(max_size=100))
def test_an_ad_with_generated_creatives_is_one_that_the_log_takes(title, text, category):
    ad = Ad(ad_id="a", campaign_id="c", title=title, text=text, category=category)
    check_ad(Ad(**{**fields_of(ad), "creatives": with_generated(ad, TemplateGenerator(), count=9)}))


@pytest.mark.parametrize("field", ["title", "text", "category"])
def test_control_characters_of_an_ad_are_in_no_generated_creative(field):
    ad = Ad(
        **{"ad_id": "a", "campaign_id": "c", "title": "Boots", "text": "Dry.", field: "Light\x1b\x01boots"}
    )
    made = with_generated(ad, TemplateGenerator(), count=9)
    assert len(made) > 2 and any("Light boots" in one.headline + one.call_to_action for one in made)
    check_ad(Ad(**{**fields_of(ad), "creatives": made}))


def fields_of(ad):
    return {name: getattr(ad, name) for name in ad.__struct_fields__}


def test_braces_in_an_ads_text_are_text_and_no_slots():
    ad = Ad(ad_id="a", campaign_id="c", title="{0.__class__} {title}")
    (made,) = TemplateGenerator(["{title}"], []).generate(ad, 1)
    assert presented(ad, made).headline == "{0.__class__} {title}"


def test_an_ad_shown_as_it_stands_keeps_showing_its_title_whatever_it_becomes():
    original = with_generated(SHOES, TemplateGenerator(), count=1)[0]
    assert presented(SHOES, original).headline == "Trail shoes"
    assert presented(Ad(ad_id="a", campaign_id="c", title="Boots"), original).headline == "Boots"


def test_an_ad_of_which_nothing_can_be_said_stays_as_it_is():
    assert with_generated(Ad(ad_id="a", campaign_id="c"), TemplateGenerator()) == ()


def test_no_ad_gets_more_creatives_than_it_may_hold():
    own = tuple(Creative(creative_id=f"x{n}") for n in range(MAX_CREATIVES - 1))
    full = with_generated(Ad(**{**fields_of(SHOES), "creatives": own}), TemplateGenerator(), count=5)
    assert len(full) == MAX_CREATIVES
    assert full[:-1] == own


def test_generated_creatives_take_the_image_that_the_ad_has():
    own = (Creative(creative_id="x"), Creative(creative_id="y", image_url="https://cdn/y.png"))
    ad = Ad(**{**fields_of(SHOES), "creatives": own})
    made = [*TemplateGenerator().generate(ad, 1), *LanguageModelGenerator(lambda *_: "Run").generate(ad, 1)]
    assert [creative.image_url for creative in made] == ["https://cdn/y.png"] * 2


def test_adding_generated_creatives_never_takes_an_ad_off_the_air_and_adds_nothing_twice():
    grown = with_generated(SHOES, TemplateGenerator(), count=2)
    assert [review_of(c) for c in grown] == ["approved", "pending", "pending"]
    ad = Ad(
        ad_id="a", campaign_id="c", title=SHOES.title, text=SHOES.text, category="sports", creatives=grown
    )
    assert is_presentable(ad)
    assert with_generated(ad, TemplateGenerator(), count=2) == grown


def test_control_characters_of_a_models_answer_are_in_no_headline():
    (made,) = read_headlines("1. Light\x1bboots\x00", 5)
    assert made.headline == "Light boots"


def test_a_language_models_lines_become_pending_creatives():
    answer = '1. "Run further"\n\n- Run further\n2) ok\n' + "x" * 99 + "\n* 3 pairs for 2\n  Stay dry"
    made = read_headlines(answer, 5)
    assert [creative.headline for creative in made] == ["Run further", "3 pairs for 2", "Stay dry"]
    assert {(creative.generated, creative.review) for creative in made} == {(True, "pending")}


def test_a_language_model_is_asked_with_the_ads_text():
    asked = []
    made = LanguageModelGenerator(lambda prompt, tokens: asked.append((prompt, tokens)) or "Run").generate(
        SHOES, 2
    )
    assert "Product: Trail shoes" in asked[0][0]
    assert asked[0][1] == 48
    assert made[0].headline == "Run"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_a_missing_language_model_runtime_is_said_clearly(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SettingError, match=r"impulse\[creatives\]"):
        local_model(folder)


def test_a_generator_that_is_no_folder_of_a_model_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(SettingError, match=r"no config\.json there"):
        local_model(tmp_path)
    with pytest.raises(SettingError, match="expected template, or the folder"):
        local_model(Path("tempalte"))


def test_a_local_model_is_never_downloaded_and_decodes_greedily(folder, monkeypatch):
    opened, asked = [], []

    def from_pretrained(path, **options):
        opened.append((path, options["local_files_only"]))

    def pipeline(task, model, tokenizer):
        return lambda prompt, **options: asked.append(options) or [{"generated_text": "Run"}]

    auto = SimpleNamespace(from_pretrained=from_pretrained)
    fake = SimpleNamespace(AutoModelForCausalLM=auto, AutoTokenizer=auto, pipeline=pipeline)
    monkeypatch.setitem(sys.modules, "transformers", fake)
    assert local_model(folder)("prompt", 7) == "Run"
    assert opened == [(str(folder), True)] * 2
    assert asked == [{"do_sample": False, "max_new_tokens": 7, "return_full_text": False}]
