"""Whatever is given to `impulse train` and `impulse evaluate ranking`: a clear error, or what is promised."""

import gzip
import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from connectors.artifacts import ArtifactStore
from connectors.log_files import write_log
from flows.cli import app
from models.domain.errors import ArtifactError, ImpulseError, LogError
from models.domain.log import LogRecord

HEAD = "user_id:token\titem_id:token\ttimestamp:float\n"
RECBOLE = ("--format", "recbole")
QUICK = ("--minutes", "0.02")


def impulse(*words):
    done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def rows(users=30, items=12, length=9):
    """Users who walk around a ring of items, one step a minute."""
    return [
        (f"u{user}", f"i{(user * 5 + n) % items}", 1_000_000 + user * 7 + n * 60)
        for user in range(users)
        for n in range(length)
    ]


def text(rows):
    return HEAD + "".join(f"{user}\t{item}\t{time}\n" for user, item, time in rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    (folder / "ring.inter").write_text(text(rows()))
    impulse("train", "--interactions", folder / "ring.inter", *RECBOLE, "--out", folder / "model", *QUICK)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    """A copy of the model that a test may damage."""
    for file in ("model.safetensors", "manifest.json"):
        (tmp_path / file).write_bytes((folder / "model" / file).read_bytes())
    return tmp_path


def ranked(model, file, *words):
    return impulse("evaluate", "ranking", "--model", model, "--interactions", file, *RECBOLE, *words)


def finite(figures):
    return all(math.isfinite(v) for name, v in figures.items() if name.startswith(("hr@", "ndcg@", "mrr")))


COMMANDS = {
    "train": lambda folder, file, form: (
        "train", "--interactions", file, "--format", form, "--out", folder / "other", *QUICK,
    ),
    "ranking": lambda folder, file, form: (
        "evaluate", "ranking", "--model", folder / "model", "--interactions", file, "--format", form,
    ),
}  # fmt: skip
whole = text(rows()).encode()
BAD_FILES = {
    "empty": (b"", "pairs", "no interaction"),
    "blank lines": (b"\n\n\n", "sequences", "no interaction"),
    "header alone": (HEAD.encode(), "recbole", "no interaction"),
    "no header": (b"", "recbole", "header"),
    "cut in a line": (whole[:-12], "recbole", "line 271.*3 columns"),
    "cut gzip": (gzip.compress(whole)[:-30], "recbole", "whole"),
    "gzip of nothing": (gzip.compress(b""), "pairs", "no interaction"),
    "gzip with garbage for data": (gzip.compress(whole)[:10] + b"\xff" * 60, "recbole", "whole"),
    "no text": (b"u\xff\xfe i\n", "pairs", "whole"),
    "another format": (whole, "pairs", "true --format"),
    "NaN for a time": ((HEAD + "u\ti\tnan\n").encode(), "recbole", "seconds since 1970"),
    "infinity for a time": ((HEAD + "u\ti\tinf\n").encode(), "recbole", "seconds since 1970"),
    "a negative time": ((HEAD + "u\ti\t-5\n").encode(), "recbole", "seconds since 1970"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(folder, tmp_path, command, name):
    data, form, message = BAD_FILES[name]
    file = tmp_path / "given"
    file.write_bytes(data)
    with pytest.raises(LogError, match=message) as caught:
        impulse(*COMMANDS[command](folder, file, form))
    assert "given" in str(caught.value)
    assert "Fix: " in str(caught.value)


def test_a_file_of_items_that_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(LogError, match=r"missing\.item"):
        ranked(folder / "model", folder / "ring.inter", "--items", tmp_path / "missing.item")


@pytest.mark.parametrize("lines", ["u a\n", "u a\nv a\nw b\n", "u a\nu b\nu c\n"])
def test_users_too_short_to_learn_from_are_refused(tmp_path, lines):
    (tmp_path / "short").write_text(lines)
    with pytest.raises(LogError, match="two events beside the last two"):
        impulse("train", "--interactions", tmp_path / "short", "--out", tmp_path / "m", *QUICK)


def test_users_with_one_item_cannot_be_ranked_for(folder, tmp_path):
    (tmp_path / "single").write_text(text([(f"u{n}", "i1", 5) for n in range(4)]))
    with pytest.raises(LogError, match="no user with two items"):
        ranked(folder / "model", tmp_path / "single")


def test_one_user_is_enough(tmp_path):
    (tmp_path / "one").write_text(text([("u", f"i{n % 4}", n) for n in range(12)]))
    impulse("train", "--interactions", tmp_path / "one", *RECBOLE, "--out", tmp_path / "m", *QUICK)
    told = ranked(tmp_path / "m", tmp_path / "one", "--baselines")
    assert (told["users"], told["items"]) == (1, 4)
    assert finite(told)
    assert set(told["standard_errors"].values()) == {0}


def test_sequences_of_one_and_of_ten_thousand_stand_side_by_side(tmp_path):
    long = [("long", f"i{(n * n) % 31}", n) for n in range(10_000)]
    (tmp_path / "both").write_text(text([*long, ("short", "i1", 7), ("pair", "i1", 7), ("pair", "i4", 9)]))
    impulse("train", "--interactions", tmp_path / "both", *RECBOLE, "--out", tmp_path / "m", *QUICK)
    told = ranked(tmp_path / "m", tmp_path / "both")
    assert told["users"] == 2  # who has a history and a target
    assert finite(told)


def test_users_and_items_never_seen_are_ranked_by_what_is_known_of_unknown_ones(folder, tmp_path):
    strangers = [(f"new{user}", f"never{(user + n) % 9}", n) for user in range(5) for n in range(4)]
    (tmp_path / "new").write_text(text(strangers))
    with pytest.raises(LogError, match="none that the model knows"):
        ranked(folder / "model", tmp_path / "new")
    (tmp_path / "new").write_text(text([*strangers, ("once", "i1", 0)]))
    told = ranked(folder / "model", tmp_path / "new")
    assert (told["users"], told["items"], told["known_items"]) == (5, 9, 1)
    assert finite(told)
    mixed = [(f"new{user}", item, n) for user in range(5) for n, item in enumerate(("i1", "never", "i3"))]
    (tmp_path / "mixed").write_text(text(mixed))
    assert finite(ranked(folder / "model", tmp_path / "mixed"))


def test_times_that_stand_still_or_leap_by_centuries_are_learned_from(tmp_path):
    leaps = [(user, f"i{n % 5}", [0, 0, 0, 4e9, 4e9, 9e10][n % 6]) for user in "abc" for n in range(12)]
    (tmp_path / "leaps").write_text(text(leaps))
    impulse("train", "--interactions", tmp_path / "leaps", *RECBOLE, "--out", tmp_path / "m", *QUICK)
    assert finite(ranked(tmp_path / "m", tmp_path / "leaps"))


def test_a_packed_file_gives_the_figures_of_the_plain_one(folder, tmp_path):
    (tmp_path / "ring.inter.gz").write_bytes(gzip.compress(whole))
    assert ranked(folder / "model", tmp_path / "ring.inter.gz") == ranked(
        folder / "model", folder / "ring.inter"
    )


def test_a_model_that_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(ArtifactError, match="impulse train"):
        ranked(tmp_path / "none", folder / "ring.inter")


def test_a_model_of_another_schema_is_refused(folder, copied):
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(ArtifactError, match=r"got 99, expected 1.*train the model with this version"):
        ranked(copied, folder / "ring.inter")


@pytest.mark.parametrize("file", ["model.safetensors", "manifest.json"])
@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_a_cut_model_is_refused(folder, copied, file, kept):
    data = (copied / file).read_bytes()
    (copied / file).write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ArtifactError, match=file):
        ranked(copied, folder / "ring.inter")


def test_a_model_of_other_tensors_under_the_same_manifest_is_refused(folder, copied):
    data = bytearray((copied / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copied / "model.safetensors").write_bytes(data)
    with pytest.raises(ArtifactError, match="content hash"):
        ranked(copied, folder / "ring.inter")


@pytest.mark.parametrize("damage", ["cut", "of another schema"])
def test_a_checkpoint_that_cannot_be_gone_on_from_is_refused(folder, tmp_path, damage):
    from safetensors.numpy import save_file

    path = tmp_path / "checkpoint.safetensors"
    if damage == "cut":
        path.write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00{")
    else:
        save_file({"weights": np.zeros(3, np.float32)}, path, {"of": "an older layout"})
    with pytest.raises(ArtifactError, match="delete"):
        impulse(
            "train", "--interactions", folder / "ring.inter", *RECBOLE, "--out", tmp_path / "m", *QUICK,
            "--checkpoints", tmp_path,
        )  # fmt: skip
    assert not (tmp_path / "m").exists()


def record(offset, **fields):
    return LogRecord("ads.events.v1", 0, offset, 1_000 + offset, b"u", json.dumps(fields).encode(), ())


LOGS = {
    "no record": [],
    "no user event": [record(0, type="ad_withdraw", id="w", event_time=1, ad_ids=["a"])],
    "nothing readable": [record(0, type="click", id="x", event_time=float("nan"), user_id="u", ad_id="a")],
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_that_teaches_nothing_is_refused(tmp_path, name):
    write_log(tmp_path / "log.jsonl", LOGS[name])
    with pytest.raises(LogError, match="Fix: "):
        impulse("train", "--log", tmp_path / "log.jsonl", "--out", tmp_path / "m", *QUICK)


def test_a_log_whose_ads_came_as_a_whole_catalogue_is_trained_on_with_its_artifact(tmp_path, monkeypatch):
    ads = [{"ad_id": f"a{n}", "campaign_id": "c", "category": "x", "title": f"ad {n}"} for n in range(4)]
    artifact = ArtifactStore(tmp_path / "artifacts").put(json.dumps(ads).encode())
    views = [
        record(n, type="view", id=f"v{n}", event_time=n, user_id=f"u{n % 8}", ad_id=f"a{(n + n // 8) % 4}")
        for n in range(1, 81)
    ]
    whole = record(0, type="catalogue", id="whole", event_time=0, artifact=artifact)
    write_log(tmp_path / "log.jsonl", [whole, *views])
    command = ("train", "--log", tmp_path / "log.jsonl", "--out", tmp_path / "m", *QUICK)
    with pytest.raises(LogError, match=f"catalogue {artifact}"):
        impulse(*command)
    monkeypatch.setenv("IMPULSE_ARTIFACTS", str(tmp_path / "artifacts"))
    impulse(*command)
    assert json.loads((tmp_path / "m" / "manifest.json").read_text())["config"]["content_dim"] > 0


def test_a_cut_log_is_refused(tmp_path):
    write_log(tmp_path / "log.jsonl.zst", [record(n, type="noise", id=str(n)) for n in range(500)])
    data = (tmp_path / "log.jsonl.zst").read_bytes()
    (tmp_path / "log.jsonl.zst").write_bytes(data[:-9])
    with pytest.raises(LogError, match="cut short"):
        impulse("train", "--log", tmp_path / "log.jsonl.zst", "--out", tmp_path / "m", *QUICK)


@pytest.mark.parametrize(
    "words",
    [
        ("--content", "/no/such/encoder"),
        ("--device", "tpu"),
        ("--log", "also"),
    ],
)
def test_options_that_cannot_work_are_refused_before_training(folder, tmp_path, words):
    items = tmp_path / "x.item"
    items.write_text("item_id:token\ttitle:token_seq\n" + "".join(f"i{n}\ttitle {n}\n" for n in range(12)))
    with pytest.raises(ImpulseError, match="Fix: "):
        impulse(
            "train", "--interactions", folder / "ring.inter", *RECBOLE, "--items", items,
            "--out", tmp_path / "m", *words,
        )  # fmt: skip
    assert not (tmp_path / "m").exists()


def test_a_file_sets_the_size_of_the_network_and_how_it_is_trained(folder, tmp_path):
    (tmp_path / "wide.toml").write_text(
        "[model]\nd_model = 128\nheads = 4\nblocks = 3\n[training]\nsteps = 2\nlearning_rate = 0.001\n"
    )
    told = impulse(
        "train", "--interactions", folder / "ring.inter", *RECBOLE, "--out", tmp_path / "m",
        "--config", tmp_path / "wide.toml",
    )  # fmt: skip
    assert told["steps"] == 2
    assert told["options"]["learning_rate"] == 0.001
    config = json.loads((tmp_path / "m" / "manifest.json").read_text())["config"]
    assert (config["d_model"], config["heads"], config["blocks"]) == (128, 4, 3)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[model]\nwidth = 8\n", "d_model"),
        ("[model]\nvocabulary = 8\n", "drop what is unknown"),
        ("[model]\nslots = 0\n", "drop what is unknown"),
        ("[model]\nsegments = 2\n", "drop what is unknown"),
        ("[models]\n", "model, training"),
        ("model = 3\n", "fields of"),
        ("[model]\nd_model = 63\n", "multiple of 2"),
        ("[model]\nd_model = 'wide'\n", "correct the type"),
        ("[training]\nnegatives = 0\n", "training.negatives"),
        ("[model\n", "TOML"),
    ],
)
def test_a_file_of_sizes_that_cannot_be_is_refused(folder, tmp_path, toml, message):
    (tmp_path / "x.toml").write_text(toml)
    with pytest.raises(ImpulseError, match=message):
        impulse(
            "train", "--interactions", folder / "ring.inter", *RECBOLE, "--out", tmp_path / "m",
            "--config", tmp_path / "x.toml",
        )  # fmt: skip
