"""Creatives as templates: slots filled from the ad, and which templates are refused."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.catalogue import Ad, Creative
from models.domain.templates import SLOTS, escape, fill, presented, slot_problem

SHOES = Ad(ad_id="a 1", campaign_id="c", title="Trail & shoes", category="sports", text="Light.")


def creative(**texts):
    return Creative(creative_id="x", **texts)


def test_slots_are_filled_from_the_ad():
    shown = presented(
        SHOES, creative(headline="New: {title} ({category})", call_to_action="See all {category}")
    )
    assert (shown.headline, shown.call_to_action) == ("New: Trail & shoes (sports)", "See all sports")
    assert shown.creative_id == "x"


def test_what_is_filled_into_a_url_is_percent_encoded():
    url = "https://cdn.example/{ad_id}.png?t={title}"
    assert presented(SHOES, creative(image_url=url)).image_url == (
        "https://cdn.example/a%201.png?t=Trail%20%26%20shoes"
    )


def test_a_creative_without_slots_is_the_very_same():
    plain = creative(headline="Run", image_url="https://cdn.example/x.png")
    assert presented(SHOES, plain) is plain


def test_double_braces_are_braces():
    assert fill("{{{title}}} {{title}}", SHOES) == "{Trail & shoes} {title}"


@given(st.text())
def test_an_escaped_text_fills_to_itself(text):
    assert fill(escape(text), SHOES) == text
    assert slot_problem(SHOES, creative(headline=escape(text))) == ""


@given(st.text())
def test_a_title_is_filled_in_as_it_is_whatever_it_holds(title):
    ad = Ad(ad_id="a", campaign_id="c", title=title)
    assert fill("<{title}>", ad) == f"<{title}>"
    assert unquote(fill("{title}", ad, url=True)) == title


@given(st.text(alphabet="{}titlex .", max_size=30))
def test_what_passes_the_check_leaves_no_slot_open_and_what_does_not_is_still_filled(template):
    shown = presented(SHOES, creative(headline=template)).headline
    if not slot_problem(SHOES, creative(headline=template)):
        bare = template.replace("{{", "").replace("}}", "").replace("{title}", "").replace("{text}", "")
        assert "{" not in bare and "}" not in bare
        assert len(shown) >= len(bare)


@pytest.mark.parametrize("name", SLOTS)
def test_every_slot_is_a_text_of_the_ad(name):
    ad = Ad(ad_id="1", campaign_id="c", title="2", text="3", category="4", advertiser_id="5")
    assert fill(f"{{{name}}}", ad) == getattr(ad, name)


@pytest.mark.parametrize(
    ("field", "template", "problem"),
    [
        ("headline", "{titel}", "unknown slot {titel} in its headline"),
        ("headline", "{title.__class__}", "unknown slot {title.__class__}"),
        ("headline", "{title!r}", "unknown slot {title!r}"),
        ("headline", "{bid_micros}", "unknown slot {bid_micros}"),
        ("headline", "{}", "unknown slot {}"),
        ("headline", "50 % {", "unknown slot {"),
        ("call_to_action", "go }", "unknown slot } in its call_to_action"),
        ("image_url", "https://{host}/x", "unknown slot {host} in its image_url"),
        (
            "headline",
            "By {advertiser_id}",
            "slot {advertiser_id}, which its ad leaves empty, in its headline",
        ),
        ("call_to_action", "{title}" * 10, "130 characters in its call_to_action once filled, above 128"),
    ],
)
def test_a_template_that_cannot_be_filled_is_told(field, template, problem):
    assert problem in slot_problem(SHOES, creative(**{field: template}))
