"""What every scorer promises to the decision core, and how a trained model is opened."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.catalogue import Ad, Catalogue, text_of
from models.domain.errors import ArtifactError, ImpulseError
from models.domain.ids import key64
from models.scorer import artifact
from models.scorer.config import ModelConfig
from models.scorer.content import HashedText
from models.scorer.interface import HistoryTable
from models.scorer.popularity import PopularityScorer
from models.scorer.serving import TransformerScorer, open_scorer
from models.scorer.weights import blank_tensors

KNOWN = 50
CONFIG = ModelConfig(vocabulary=KNOWN, d_model=16, heads=1, window=4, rotary_length=16, head_width=16)
USERS = 7


def known_keys():
    return np.sort(np.array([key64(f"ad-{i}") for i in range(KNOWN)], np.uint64))


def random_model(config=CONFIG, seed=0):
    rng = np.random.default_rng(seed)
    tensors = {
        name: (value + 0.5 * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in blank_tensors(config).items()
        if name != "vocabulary_keys"
    }
    return tensors | {"vocabulary_keys": known_keys()}


def item_graph(seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, KNOWN + 1, (KNOWN + 1, 6)).astype(np.int32)
    described = {
        "blend": 2.0,
        "click": 1.5,
        "recent": 3,
        "recent_decay": 0.8,
        "lags": 5,
        "lag_decay": 0.8,
        "shrinkage": 1.0,
    }
    weights = rng.random(rows.shape).astype(np.float32)
    return described, {"neighbour_rows": rows, "neighbour_weights": weights}


def saved(directory, config=CONFIG, **manifest):
    """Write a random model with an item graph into a folder."""
    described, graph = item_graph()
    full = {"config": config.to_dict(), "neighbours": described, **manifest}
    artifact.save(directory, {**random_model(config), **graph}, full)
    return directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("model"))


def popularity(_folder):
    rng = np.random.default_rng(0)
    return PopularityScorer(known_keys(), rng.standard_normal(KNOWN + 1).astype(np.float32))


SCORERS = {
    "popularity": popularity,
    "transformer": lambda _: TransformerScorer(CONFIG, random_model(), "test", hot_users=3),
    "transformer with an item graph": lambda folder: open_scorer(folder, hot_users=3),
}


@pytest.fixture(scope="module", params=SCORERS)
def scorer(request, folder):
    return SCORERS[request.param](folder)


def catalogue(ads=90):
    return Catalogue().upsert(
        [Ad(ad_id=f"ad-{i}", campaign_id="c", category=f"k{i % 4}") for i in range(ads)]
    )


def history(scorer, seed=0):
    rng, length = np.random.default_rng(seed), scorer.history_length
    table = HistoryTable.empty(USERS, length)
    table.ad_key[:] = rng.choice(known_keys(), table.ad_key.shape)
    table.kind[:] = rng.integers(0, 8, table.kind.shape)
    table.time_ms[:] = 10**9 + np.sort(rng.integers(0, 10**7, table.time_ms.shape), axis=1)
    table.count[:] = rng.integers(0, length, USERS)
    table.count[0] = 0
    return table


def decide(scorer, table, rows, index, seed=0, k=10):
    """Everything a decision asks of a scorer; each user's situation depends on their row."""
    rng = np.random.default_rng(seed)
    bias = rng.standard_normal((2, len(index))).astype(np.float32)
    words = rng.integers(0, 2**64, (USERS, -(-len(index) // 64)), dtype=np.uint64)
    words[:, -1:] &= np.uint64((1 << (len(index) % 64)) - 1)
    users = scorer.encode(table, rows, rows * 0)
    found, scores = scorer.retrieve(users, index, bias, rows % 2, words[rows], k)
    return users, found, scores, *scorer.rank(table, rows, users, index, found)


def assert_same(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_scorer_names_its_model_and_the_history_it_needs(scorer):
    assert isinstance(scorer.model_hash, str)
    assert scorer.model_hash
    assert scorer.history_length >= 1


def test_an_index_states_version_vectors_and_biases(scorer):
    index = scorer.index(catalogue())
    assert index.catalogue_version == catalogue().version
    assert index.vectors.shape[0] == len(index.bias) == len(index) == 90
    assert index.vectors.dtype == index.bias.dtype == np.float32


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_a_users_answers_do_not_depend_on_the_batch(scorer, seed):
    table, index = history(scorer, seed), scorer.index(catalogue())
    everyone = np.arange(USERS)
    whole = decide(scorer, table, everyone, index)
    order = np.random.default_rng(seed).permutation(USERS)[: 1 + seed % USERS]
    assert_same(decide(scorer, table, order, index), [w[order] for w in whole])
    for row in everyone:
        assert_same(decide(scorer, table, np.array([row]), index), [w[row : row + 1] for w in whole])


def test_two_scorers_of_one_model_give_the_same_bits(scorer, request, folder):
    twin = SCORERS[request.node.callspec.params["scorer"]](folder)
    assert twin.model_hash == scorer.model_hash
    table, rows = history(scorer), np.arange(USERS)
    assert_same(
        decide(twin, table, rows, twin.index(catalogue())),
        decide(scorer, table, rows, scorer.index(catalogue())),
    )


def test_retrieved_ads_are_eligible_and_best_first(scorer):
    index, table, rows = scorer.index(catalogue()), history(scorer), np.arange(USERS)
    words = np.tile(np.array([[0b1111 << 20, 0b11]], np.uint64), (USERS, 1))
    bias = np.zeros((1, 90), np.float32)
    found, scores = scorer.retrieve(scorer.encode(table, rows, rows * 0), index, bias, rows * 0, words, 8)
    for row in found:
        assert set(row[:6]) == {20, 21, 22, 23, 64, 65}
        assert (row[6:] == -1).all()
    assert (np.diff(scores[:, :6]) <= 0).all()
    assert np.isneginf(scores[:, 6:]).all()


def test_every_candidate_has_finite_logits_and_no_candidate_minus_infinity(scorer):
    index, table, rows = scorer.index(catalogue()), history(scorer), np.arange(USERS)
    candidates = np.tile(np.array([3, -1, 89, -1], np.int32), (USERS, 1))
    logits = scorer.rank(table, rows, scorer.encode(table, rows, rows * 0), index, candidates)
    for one in logits:
        assert np.isfinite(one[:, [0, 2]]).all()
        assert np.isneginf(one[:, [1, 3]]).all()


def test_an_empty_batch_has_empty_answers(scorer):
    users, found, _, click, _ = decide(
        scorer, history(scorer), np.zeros(0, np.int64), scorer.index(catalogue())
    )
    assert len(users) == 0
    assert found.shape == click.shape == (0, 10)


def test_an_empty_catalogue_has_no_candidates(scorer):
    table, rows = history(scorer), np.arange(USERS)
    _, found, _, click, conversion = decide(scorer, table, rows, scorer.index(Catalogue()))
    assert (found == -1).all()
    assert np.isneginf([click, conversion]).all()


def test_an_index_grown_from_another_equals_one_built_whole(scorer):
    before = catalogue(40)
    after = before.upsert([*catalogue(90).ads[40:], Ad(ad_id="ad-3", campaign_id="c", category="new")])
    grown, whole = scorer.index(after, scorer.index(before)), scorer.index(after)
    table, rows = history(scorer), np.arange(USERS)
    assert_same(decide(scorer, table, rows, grown), decide(scorer, table, rows, whole))


def test_the_item_graph_boosts_followers_of_the_last_ads(folder):
    plain, boosted = TransformerScorer(CONFIG, random_model(), "test"), open_scorer(folder)
    table, index = history(plain, 3), boosted.index(catalogue())
    row = int(np.argmax(table.count))
    arguments = (index, np.zeros((1, 90), np.float32), np.zeros(1, np.int64))
    words = np.array([[~np.uint64(0), np.uint64((1 << 26) - 1)]])
    scores = []
    for one in (plain, boosted):
        found, score = one.retrieve(
            one.encode(table, np.array([row]), np.zeros(1, np.int64)), *arguments, words, 90
        )
        scores.append(score[0][np.argsort(found[0])])
    np.testing.assert_allclose(scores[1] - scores[0], 2.0 * graph_scores(table, row), atol=1e-5)


def test_the_item_graph_raises_the_click_logits_of_followers_and_no_conversion(folder):
    plain, boosted = TransformerScorer(CONFIG, random_model(), "test"), open_scorer(folder)
    table, index = history(plain, 3), boosted.index(catalogue())
    rows = np.arange(USERS)
    candidates = np.tile(np.append(np.arange(90)[::-1], -1).astype(np.int32), (USERS, 1))
    ours, theirs = (
        one.rank(table, rows, one.encode(table, rows, rows * 0), index, candidates)
        for one in (boosted, plain)
    )
    expected = [1.5 * graph_scores(table, row)[::-1] for row in rows]
    np.testing.assert_allclose(ours[0][:, :-1] - theirs[0][:, :-1], expected, atol=1e-5)
    assert np.isneginf(ours[0][:, -1]).all()
    np.testing.assert_array_equal(ours[1], theirs[1])


def graph_scores(table, row):
    """The item graph's score of each ad of the catalogue for a user, slowly."""
    described, graph = item_graph()
    keys, expected = known_keys(), np.zeros(90)
    for n in range(min(described["recent"], table.count[row])):
        event = table.ad_key[row, (table.count[row] - 1 - n) % table.ad_key.shape[1]]
        at = int(np.searchsorted(keys, event)) + 1
        follower = zip(graph["neighbour_rows"][at], graph["neighbour_weights"][at], strict=True)
        for known, weight in follower:
            for ad in range(KNOWN):
                if known and keys[known - 1] == key64(f"ad-{ad}"):
                    expected[ad] += described["recent_decay"] ** n * weight
    return expected


def test_a_model_opened_from_its_folder_names_itself_by_its_hash(folder):
    assert open_scorer(folder).model_hash == artifact.load(folder).model_hash


def test_a_model_with_content_reads_the_texts_of_ads(tmp_path):
    config = ModelConfig(vocabulary=KNOWN, d_model=16, heads=1, window=4, rotary_length=16, content_dim=3)
    rng = np.random.default_rng(0)
    encoder = HashedText(np.ones(64, np.float32), rng.standard_normal((64, 3)).astype(np.float32))
    artifact.save(
        tmp_path,
        {**random_model(config), **encoder.tensors()},
        {"config": config.to_dict(), "content": encoder.manifest()},
    )
    ads = [Ad(ad_id=f"new-{i}", campaign_id="c", title=t) for i, t in enumerate(("shoes", "shoes", "tea"))]
    vectors = open_scorer(tmp_path).index(Catalogue().upsert(ads)).vectors
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert (vectors[0] != vectors[2]).any()


def test_the_text_of_an_ad_is_its_title_and_text():
    assert text_of(Ad(ad_id="a", campaign_id="c", title="Tea", text="green")) == "Tea green"
    assert text_of(Ad(ad_id="a", campaign_id="c")) == ""


@pytest.mark.parametrize("name", [artifact.TENSORS_FILE, artifact.MANIFEST_FILE])
def test_a_flipped_byte_anywhere_is_refused(tmp_path, name):
    path = saved(tmp_path) / name
    good = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(good), 12):
        damaged = bytearray(good)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError):
            open_scorer(tmp_path)


def test_a_missing_folder_is_refused_with_the_fix(tmp_path):
    with pytest.raises(ArtifactError, match="impulse train"):
        open_scorer(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("blocks.0.qkv.weight", np.zeros((3, 16), np.float32)),
        ("start", np.full(16, np.nan, np.float32)),
        ("ad.weight", np.zeros((KNOWN + 1, 16), np.float64)),
        ("vocabulary_keys", np.arange(KNOWN, dtype=np.uint64)[::-1]),
        ("head_out.bias", None),
    ],
)
def test_a_tensor_that_does_not_fit_the_network_is_refused_by_name(name, wrong):
    tensors = {k: v for k, v in random_model().items() if k != name}
    if wrong is not None:
        tensors[name] = wrong
    with pytest.raises(ArtifactError, match=name):
        TransformerScorer(CONFIG, tensors, "test")


def test_a_model_with_content_and_no_encoder_is_refused():
    config = ModelConfig(vocabulary=KNOWN, d_model=16, heads=1, window=4, rotary_length=16, content_dim=3)
    with pytest.raises(ArtifactError, match="content encoder"):
        TransformerScorer(config, random_model(config), "test")


def test_an_item_graph_of_another_vocabulary_is_refused(tmp_path):
    described, graph = item_graph()
    graph["neighbour_rows"] = graph["neighbour_rows"] + KNOWN
    artifact.save(
        tmp_path, {**random_model(), **graph}, {"config": CONFIG.to_dict(), "neighbours": described}
    )
    with pytest.raises(ArtifactError, match="neighbour_rows"):
        open_scorer(tmp_path)


def test_candidates_outside_the_catalogue_are_refused():
    one = TransformerScorer(CONFIG, random_model(), "test")
    table, rows, index = history(one), np.zeros(1, np.int64), one.index(catalogue())
    with pytest.raises(ImpulseError, match="candidates"):
        one.rank(table, rows, one.encode(table, rows, rows * 0), index, np.array([[90]], np.int32))


WARMED = """
import sys
from pathlib import Path
import numpy as np
from numba.core.dispatcher import Dispatcher
from models.domain.catalogue import Ad, Catalogue
from models.scorer import serving
from models.scorer.interface import HistoryTable

def compiled():
    modules = [m for name, m in sys.modules.items() if name.startswith("models.")]
    found = {d for m in modules for d in vars(m).values() if isinstance(d, Dispatcher)}
    return {(d.py_func.__qualname__, str(s)) for d in found for s in d.signatures}

serving.warm_up()
before = compiled()
scorer, rows = serving.open_scorer(Path(sys.argv[1])), np.arange(2)
history = HistoryTable.empty(2, scorer.history_length)
history.count[0] = 3
index = scorer.index(Catalogue().upsert([Ad(ad_id=f"ad-{i}", campaign_id="c") for i in range(70)]))
users = scorer.encode(history, rows, rows * 0)
bias, words = np.zeros((1, 70), np.float32), np.full((2, 2), 63, np.uint64)
found, _ = scorer.retrieve(users, index, bias, rows * 0, words, 5)
scorer.rank(history, rows, users, index, found)
assert before, "no kernel is known"
print(*sorted(compiled() - before), sep="\\n")
"""


def test_a_model_that_comes_after_the_warm_up_finds_all_its_kernels_compiled(folder):
    done = subprocess.run([sys.executable, "-c", WARMED, folder], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_serving_loads_no_torch():
    code = "import sys, models.scorer.serving; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
