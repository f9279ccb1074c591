"""Creatives: what a generator may do."""

import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.catalogue import Ad
from models.domain.errors import SettingError
from models.policy.columns import is_presentable
from models.policy.creative_llm import LanguageModelGenerator, local_model, read_headlines
from models.policy.creatives import (
    MAX_CALL_TO_ACTION,
    MAX_HEADLINE,
    TemplateGenerator,
    with_generated,
)

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


texts = st.text(max_size=200)


@given(texts, texts, st.text(max_size=100), st.integers(0, 6))
def test_generated_creatives_are_short_distinct_and_the_same_every_time(title, text, category, count):
    ad = Ad(ad_id="a", campaign_id="c", title=title, text=text, category=category)
    made = TemplateGenerator().generate(ad, count)
    assert made == TemplateGenerator().generate(ad, count)
    assert len({creative.creative_id for creative in made}) == len(made) <= count
    assert all(0 < len(creative.headline) <= MAX_HEADLINE for creative in made)
    assert all(len(creative.call_to_action) <= MAX_CALL_TO_ACTION for creative in made)


def test_braces_in_an_ads_text_are_text():
    ad = Ad(ad_id="a", campaign_id="c", title="{0.__class__} {x}")
    assert TemplateGenerator(["{title}"], []).generate(ad, 1)[0].headline == "{0.__class__} {x}"


def test_adding_generated_creatives_never_takes_an_ad_off_the_air_and_adds_nothing_twice():
    grown = with_generated(SHOES, TemplateGenerator(), count=2)
    assert [c.review for c in grown] == ["approved", "pending", "pending"]
    ad = Ad(
        ad_id="a", campaign_id="c", title=SHOES.title, text=SHOES.text, category="sports", creatives=grown
    )
    assert is_presentable(ad)
    assert with_generated(ad, TemplateGenerator(), count=2) == grown


def test_a_language_models_lines_become_pending_creatives():
    made = read_headlines('1. "Run further"\n\n- Run further\n2) ok\n' + "x" * 99 + "\nStay dry", 5)
    assert [creative.headline for creative in made] == ["Run further", ") ok", "Stay dry"]
    assert all(creative.review == "pending" for creative in made)


def test_a_language_model_is_asked_with_the_ads_text():
    asked = []
    made = LanguageModelGenerator(lambda prompt, tokens: asked.append((prompt, tokens)) or "Run").generate(
        SHOES, 2
    )
    assert "Product: Trail shoes" in asked[0][0]
    assert asked[0][1] == 48
    assert made[0].headline == "Run"


def test_a_missing_language_model_runtime_is_said_clearly(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SettingError, match="install the extra `content`"):
        local_model("anywhere")


def test_a_local_model_is_never_downloaded_and_decodes_greedily(monkeypatch):
    calls = []

    def pipeline(task, model, model_kwargs):
        calls.append((task, model, model_kwargs))
        return lambda prompt, **options: calls.append(options) or [{"generated_text": "Run"}]

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(pipeline=pipeline))
    assert local_model("folder")("prompt", 7) == "Run"
    assert calls[0] == ("text-generation", "folder", {"local_files_only": True})
    assert calls[1] == {"do_sample": False, "max_new_tokens": 7, "return_full_text": False}
