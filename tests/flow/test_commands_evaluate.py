"""The commands that convert, explain and evaluate, as a user calls them."""

import json
import os
from pathlib import Path

import pytest
from support.commands import impulse, options, said

from connectors.outputs import read_decisions, read_outcomes
from flows.commands.evaluation import parse_shares
from flows.policies import read_changes
from models.domain.errors import ImpulseError, LogError, SettingError
from models.evaluation.offpolicy import METHODS

DATA = Path(os.environ.get("IMPULSE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def needs(path):
    return pytest.mark.skipif(
        not (DATA / path).exists(), reason=f"no {path} under IMPULSE_TEST_DATA ({DATA.name})"
    )


def test_a_replay_of_an_own_log_joins_the_feedback_to_its_decisions(own):
    clicks = sum(o.kind == "click" for o in read_outcomes(own["--outcomes"]))
    in_log = own["--log"].read_bytes().count(b'"type":"click"')
    assert clicks > 0.9 * in_log > 0


def test_decisions_are_judged_by_what_followed(own, tmp_path):
    page = tmp_path / "report.html"
    told = impulse("evaluate", "decisions", *options(own), "--report", page)
    known = told["labels"] + told["censored_labels"] + told["late_clicks"]
    assert known == told["kinds"]["no_click"] + told["kinds"]["click"]
    assert {"segment", "new_ad", "category", "slot"} == set(told["slices"])
    (sanity,) = told["propensities"].values()
    assert sanity["bad"] == 0
    assert told["exposure"]["by"] == "advertiser"
    assert "Calibration" in page.read_text()


def test_without_a_file_there_is_nothing_to_judge():
    with pytest.raises(SettingError, match="--log, --decisions or --outcomes"):
        impulse("evaluate", "decisions")


def test_the_policy_that_made_the_log_has_weights_of_one(own):
    told = impulse("evaluate", "policy", *options(own), "--exploring", "randomized", "--replicates", 20)
    for part in ("first", "slate"):
        assert told[part]["max_weight"] == pytest.approx(1, rel=1e-9)
        assert told[part]["estimates"]["ips"]["value"] == pytest.approx(told[part]["logged"]["value"])
    assert set(told["first"]["estimates"]) == set(METHODS)
    assert set(told["slate"]["estimates"]) == {"ips", "snips", "dr"}


def test_another_policy_gets_an_estimate_and_its_gates(own, tmp_path):
    changes = tmp_path / "changes.toml"
    changes.write_text("diversity = 0.5\n")
    told = impulse("evaluate", "policy", *options(own), "--policy", changes, "--replicates", 20)
    assert told["changes"] == {"diversity": 0.5}
    assert told["first"]["effective_rows"] < told["first"]["rows"]
    assert "below 500" in told["first"]["refusal"]
    assert {e["verdict"] for e in told["first"]["estimates"].values()} == {"none"}


def test_slates_are_told_by_dr_which_the_policy_that_made_the_log_need_not_be_corrected_by(own, tmp_path):
    page = tmp_path / "report.html"
    told = impulse(
        "evaluate", "policy", *options(own), "--exploring", "randomized", "--replicates", 50, "--report", page
    )  # fmt: skip
    dr, logged = told["slate"]["estimates"]["dr"], told["slate"]["logged"]
    assert dr["value"] == pytest.approx(logged["value"], rel=0.1)
    assert dr["low"] < logged["value"] < dr["high"]
    assert "slate DR" in page.read_text() and "It has no DM" in page.read_text()


def test_decisions_of_another_log_are_refused(own, tmp_path):
    other = tmp_path / "other.jsonl"
    impulse("generate", "--users", 60, "--ads", 25, "--seconds", 20, "--seed", 9, "--out", other)
    with pytest.raises(LogError, match="the log that the decisions were made from"):
        impulse("evaluate", "policy", "--log", other, *options(own, "--decisions", "--outcomes"))


@pytest.mark.parametrize("text", ["nothing = 1", "slots = 'x'", "slots ="])
def test_a_policy_file_that_cannot_be_is_refused(tmp_path, text):
    file = tmp_path / "policy.toml"
    file.write_text(text + "\n")
    with pytest.raises(SettingError):
        read_changes(file)


def test_an_experiment_without_a_difference_claims_none(own):
    told = impulse("evaluate", "experiment", "--outcomes", own["--outcomes"], "--salt", "s")
    assert set(told["metrics"]) == {"ctr", "cvr", "revenue", "value"}
    assert told["metrics"]["ctr"]["against_control"][0]["verdict"] == "no difference shown"


@pytest.mark.parametrize("text", ["1", "0.5,0", "a,b", "0.5,inf"])
def test_shares_that_cannot_be_are_refused(text):
    with pytest.raises(SettingError, match="two or more positive numbers"):
        parse_shares(text)


def test_why_explains_a_recorded_decision(own):
    decision = next(d for d in read_decisions(own["--decisions"]) if len(d.ads) > 1)
    told = impulse("why", decision.decision_id, "--decisions", own["--decisions"])
    assert [slot["ad_id"] for slot in told["slots"]] == [slot.ad_id for slot in decision.ads]
    assert told["filtered"] == decision.filtered
    text = said("why", decision.decision_id, "--decisions", own["--decisions"])
    assert "= sigmoid(" in text
    assert f"over {decision.ads[0].ad_id}: " in text


def test_why_of_an_unknown_decision_says_what_to_do(own):
    with pytest.raises(LogError, match="copy decision_id"):
        impulse("why", "ads.events.v1-0-0", "--decisions", own["--decisions"])


def test_why_not_agrees_with_the_decision_on_every_ad(own):
    decision = [d for d in read_decisions(own["--decisions"]) if len(d.ads) == 3][-1]
    where = ("--log", own["--log"], "--decision", decision.decision_id)
    for slot in decision.ads:
        told = impulse("why-not", slot.ad_id, *where)
        assert (told["status"], told["slot"]) == ("shown", slot.slot)
        assert told["worth"]["pctr"] == slot.pctr
    assert impulse("why-not", "no-such-ad", *where)["status"] == "unknown"
    assert "shown in slot 0" in said("why-not", decision.ads[0].ad_id, *where)


def test_small_files_of_each_form_become_logs_that_replay(tmp_path):
    forms = {
        "pairs": "u1 a\nu1 b\nu2 a\n",
        "sequences": "u1 a b\nu2 a\n",
        "recbole": "user_id:token\titem_id:token\ttimestamp:float\nu1\ta\t1\nu2\ta\t2\nu1\tb\t3\n",
        "otto": '{"session": 1, "events": [{"aid": 5, "ts": 9, "type": "clicks"}]}\n',
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        log = tmp_path / f"{name}.jsonl.zst"
        told = impulse("convert", name, tmp_path / name, "--out", log, "--partitions", 2)
        again = impulse("replay", log)
        assert again["records"] == told["records"]
        assert again["decisions"] == (1 if name == "otto" else 3)
        assert again["dead_letters"] == 0


def test_a_file_of_another_form_is_refused(tmp_path):
    (tmp_path / "x").write_text("a b c\n")
    with pytest.raises(ImpulseError, match="expected"):
        impulse("convert", "pairs", tmp_path / "x", "--out", tmp_path / "log.jsonl")


def test_a_stream_of_ratings_is_judged_in_time_order(tmp_path):
    rows = [(f"u{n % 7}", f"i{n % 11}", 1 + (n * n) % 5, 1000 + n) for n in range(300)]
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    file = tmp_path / "x.inter"
    file.write_text(head + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    told = impulse("evaluate", "stream", "--interactions", file, "--minutes", 0)
    assert told["ratings"] == 300
    assert set(told["rating"]) == {"river_baseline", "river_biased_mf"}
    assert told["next_item"]["markov"]["hr@10"] > 0.9
    assert told["next_item"]["later"]["markov"]["events"] == 150
    assert "frozen" not in told["next_item"]["later"]
    assert (told["click"]["trained_on"], told["click"]["judged"]) == (150, 150)
    assert "frozen" not in told["click"]
    assert 0 <= told["click"]["online"]["gauc"] <= 1


def ratings(tmp_path, rows):
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    file = tmp_path / "x.inter"
    file.write_text(head + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("rating", [1, 5])
@pytest.mark.parametrize("count", [1, 2, 60])
def test_a_stream_that_begins_with_clicks_alone_or_with_none_is_judged(tmp_path, rating, count):
    rows = [(f"u{n % 7}", f"i{n % 5}", rating, 1000 + n) for n in range(count)]
    told = impulse("evaluate", "stream", "--interactions", ratings(tmp_path, rows), "--minutes", 0)["click"]
    assert told["ctr"] == float(rating == 5)
    assert 0 <= told["online"]["log_loss"] < 0.7


def test_a_rating_that_nothing_reaches_is_refused_before_a_model_is_trained(tmp_path):
    file = ratings(tmp_path, [(f"u{n % 7}", f"i{n % 5}", 1 + n % 5, 1000 + n) for n in range(60)])
    with pytest.raises(SettingError, match=r"--click-from: got 6.0, expected 5 at most"):
        impulse("evaluate", "stream", "--interactions", file, "--click-from", 6)


@pytest.mark.slow
def test_a_frozen_transformer_is_judged_with_and_without_adjustments(tmp_path):
    rows = [(f"u{n % 40}", f"i{(n * 7) % 50}", 5 if (n * 7) % 50 < 25 else 1, 1000 + n) for n in range(3000)]
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    file = tmp_path / "x.inter"
    file.write_text(head + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    figures = impulse("evaluate", "stream", "--interactions", file, "--minutes", 0.1)
    later, told = figures["next_item"]["later"], figures["click"]
    assert later["frozen"]["events"] == later["markov"]["events"] == 1500
    assert later["frozen"]["hr@10"] > later["popularity"]["hr@10"]
    assert told["gain"]["low"] <= told["gain"]["log_loss"] <= told["gain"]["high"]
    assert told["adjusted"]["auc"] > 0.8


@needs("otto/train.jsonl")
def test_ottos_sessions_replay_without_dead_letters(tmp_path):
    log = tmp_path / "otto.jsonl"
    impulse("convert", "otto", DATA / "otto" / "train.jsonl", "--out", log)
    told = impulse("replay", log, "--dead-letters", tmp_path / "dlq.jsonl")
    assert (told["records"], told["decisions"], told["dead_letters"]) == (1666, 800, 0)


@needs("open-bandit/bts/men/men.csv.gz")
def test_the_uniform_policy_is_found_from_thompson_samplings_log():
    folder = DATA / "open-bandit"
    told = impulse(
        "evaluate", "bandit", folder / "bts/men/men.csv.gz",
        "--against", folder / "random/men/men.csv.gz", "--replicates", 200,
    )  # fmt: skip
    assert told["refusal"] == ""
    snips, truth = told["estimates"]["snips"], told["against"]
    assert snips["low"] < truth["high"] and truth["low"] < snips["high"]


@needs("open-bandit/bts/women/women.csv.gz")
def test_a_log_without_support_gives_no_verdict():
    told = impulse("evaluate", "bandit", DATA / "open-bandit/bts/women/women.csv.gz", "--replicates", 50)
    assert "below 500" in told["refusal"]
    assert {each["verdict"] for each in told["estimates"].values()} == {"none"}


def lines_with(own, tmp_path, change):
    """Return the log with every line of ads changed, as another producer might have written it."""
    other = tmp_path / "log.jsonl"
    lines = own["--log"].read_text().splitlines()
    other.write_text("".join(f"{change(one) if 'ad_upsert' in one else one}\n" for one in lines))
    return other


def of_ads(line, change):
    told = json.loads(line)
    return json.dumps({**told, "value": change(told["value"])})


def test_ads_are_grouped_by_advertiser_in_whatever_order_their_fields_stand(own, tmp_path):
    log = lines_with(own, tmp_path, lambda one: of_ads(one, lambda v: dict(reversed(v.items()))))
    told = impulse("evaluate", "decisions", "--log", log, *options(own, "--decisions", "--outcomes"))
    assert told["exposure"] == impulse("evaluate", "decisions", *options(own))["exposure"]
    assert (told["exposure"]["by"], told["unusable_ad_records"]) == ("advertiser", 0)


def test_a_record_of_ads_that_no_flow_would_take_is_counted_and_passed_over(own, tmp_path):
    def spoilt(line):
        told = json.loads(line)
        bad = {**told["value"], "id": "bad", "ads": [{"ad_id": "x", "campaign_id": "c", "bid_micros": -5}]}
        return line + "\n" + json.dumps({**told, "value": bad})

    log = lines_with(own, tmp_path, spoilt)
    told = impulse("evaluate", "decisions", "--log", log, *options(own, "--decisions", "--outcomes"))
    assert told["exposure"]["by"] == "advertiser" and told["unusable_ad_records"] > 0


def test_a_report_makes_its_folder(own, tmp_path):
    page = tmp_path / "new" / "report.html"
    impulse("evaluate", "decisions", *options(own), "--report", page)
    assert page.exists()


def test_a_world_file_says_seed_and_sizes_where_the_command_does_not(tmp_path):
    world = tmp_path / "world.toml"
    traffic = "[traffic]\nrequests_per_s = 10\nviews_per_s = 2\n"
    world.write_text(f"seed = 7\n[sizes]\nusers = 30\nads = 20\n{traffic}")
    logs = {}
    for name, words in {"file": (), "same": ("--seed", 7), "other": ("--seed", 0)}.items():
        logs[name] = tmp_path / f"{name}.jsonl"
        impulse("generate", "--world", world, "--seconds", 3, "--out", logs[name], *words)
    file, same, other = (log.read_bytes() for log in logs.values())
    assert file == same != other
    assert file.count(b'"ad_id":"ad-000019"') and not file.count(b'"ad_id":"ad-000020","c')
