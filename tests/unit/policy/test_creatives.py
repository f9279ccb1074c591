"""Creatives: which one a decision shows, how it learns, and what a generator may do."""

import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.catalogue import Ad, Creative
from models.domain.errors import SettingError
from models.policy.columns import is_presentable
from models.policy.creative_llm import LanguageModelGenerator, local_model, read_headlines
from models.policy.creatives import (
    MAX_CALL_TO_ACTION,
    MAX_HEADLINE,
    TemplateGenerator,
    choose_creative,
    creative_key,
    with_generated,
)

SHOES = Ad(
    ad_id="a", campaign_id="c", title="Trail shoes", text="Light and dry. Made to last.", category="sports"
)


def ad_with(*reviews):
    creatives = (Creative(creative_id=f"x{n}", review=review) for n, review in enumerate(reviews))
    return Ad(ad_id="a", campaign_id="c", creatives=tuple(creatives))


def shares(ad, weights, nu=0.25, draws=4000):
    chosen = [choose_creative(ad, weights, nu, seed).creative_id for seed in range(draws)]
    return {creative.creative_id: chosen.count(creative.creative_id) / draws for creative in ad.creatives}


def test_an_ad_without_an_approved_creative_has_none_to_show():
    assert choose_creative(ad_with(), {}, 0.25, 1) is None
    assert choose_creative(ad_with("pending", "rejected"), {}, 0.25, 1) is None


def test_the_only_approved_creative_is_shown():
    assert choose_creative(ad_with("pending", "approved"), {}, 0.25, 1).creative_id == "x1"


def test_creatives_that_nothing_is_known_of_take_turns():
    assert shares(ad_with("approved", "approved", "approved"), {})["x1"] == pytest.approx(1 / 3, abs=0.03)


def test_the_better_creative_is_shown_more_and_the_other_still_explored():
    weights = {creative_key("a", "x0"): (0.3, 0.5), creative_key("a", "x1"): (0.0, 0.5)}
    found = shares(ad_with("approved", "approved"), weights, nu=0.25)
    assert found["x0"] == pytest.approx(0.885, abs=0.02), "P(N(.3, .25^2) > 0) = Phi(1.2)"


def test_without_exploration_the_best_mean_wins():
    weights = {creative_key("a", "x0"): (-0.3, 9.0)}
    assert shares(ad_with("approved", "approved"), weights, nu=0.0, draws=50)["x1"] == 1.0


@given(st.integers(0, 2**64 - 1))
def test_the_same_decision_shows_the_same_creative_in_any_order(seed):
    ad = ad_with("approved", "approved", "approved")
    weights = {creative_key("a", "x2"): (0.1, 0.2)}
    turned = Ad(ad_id="a", campaign_id="c", creatives=ad.creatives[::-1])
    assert choose_creative(ad, weights, 1.0, seed) == choose_creative(turned, weights, 1.0, seed)


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
