"""Ad text to vectors, so that an ad never shown stands near ads that it resembles.

The default encoder hashes words and pairs of words, weighs them by rarity and projects them on the main
axes of the corpus (latent semantic analysis, Deerwester et al. 1990). It is saved as arrays; encoding is
numpy and scipy alone, one text at a time, so a text's vector does not depend on what comes with it.
Legend: A texts, H hash buckets, F width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ArtifactError, SettingError
from models.domain.ids import key64

from .sequences import F32

BUCKETS = 4096
WIDTH = 64
SILENCE = 1e-6
"""A vector of a smaller norm says nothing."""

WORD = re.compile(r"\w+")


class ContentEncoder(Protocol):
    """Turns texts into vectors `[A, F]` of norm 1 (or 0 for a text that says nothing)."""

    @property
    def width(self) -> int:
        """F"""
        ...

    def encode(self, texts: Sequence[str]) -> F32:
        """Return `[A, F]`."""
        ...

    def manifest(self) -> dict[str, Any]:
        """Return what the artifact's manifest needs to build the encoder again."""
        ...

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that belong into the artifact; names begin with ``content_``."""
        ...


@dataclass(frozen=True, eq=False)
class HashedText:
    """Hashed n-grams, inverse document frequencies and a projection.

    Parameters
    ----------
    idf
        `[H]` weight of each hash bucket.
    components
        `[H, F]` main axes; a text's vector is its weighted buckets times these, normalised.

    """

    idf: F32
    components: F32

    @property
    def width(self) -> int:
        """F"""
        return self.components.shape[1]

    def encode(self, texts: Sequence[str]) -> F32:
        """Return `[A, F]`; the sums run over a text's own buckets in ascending order."""
        vectors = np.zeros((len(texts), self.width), np.float32)
        for row, text in enumerate(texts):
            bucket, count = buckets_of(text, len(self.idf))
            weight = (1 + np.log(count)).astype(np.float32) * self.idf[bucket]
            vectors[row] = (weight[:, None] * self.components[bucket]).sum(axis=0)
        return normalised(vectors)

    def manifest(self) -> dict[str, Any]:
        """Return the kind and its version."""
        return {"kind": "hashed_text", "version": 1, "width": self.width}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return idf and components."""
        return {"content_idf": self.idf, "content_components": self.components}


def buckets_of(text: str, buckets: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the hash buckets of a text's words and pairs of words, ascending, and their counts."""
    words = WORD.findall(text.lower())
    grams = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
    hashed = np.fromiter((key64(gram) % buckets for gram in grams), np.int64, len(grams))
    return np.unique(hashed, return_counts=True)


def fit_hashed_text(texts: Sequence[str], width: int = WIDTH, buckets: int = BUCKETS) -> HashedText:
    """Learn rarities and axes from texts; deterministic.

    The width shrinks where the corpus has fewer texts or buckets than asked for.
    """
    import scipy.sparse as sp
    from sklearn.decomposition import TruncatedSVD

    found = [buckets_of(text, buckets) for text in texts]
    lengths = [len(bucket) for bucket, _ in found]
    columns = np.concatenate([bucket for bucket, _ in found]) if found else np.zeros(0, np.int64)
    counts = np.concatenate([count for _, count in found]) if found else np.zeros(0, np.int64)
    if len(columns) == 0:
        raise SettingError.expected("ad texts", got="no word", expected="text", fix="train without content")
    frequency = np.bincount(columns, minlength=buckets)
    idf = (np.log((1 + len(texts)) / (1 + frequency)) + 1).astype(np.float32)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    values = (1 + np.log(counts)) * idf[columns]
    matrix = sp.csr_matrix((values, columns, starts), shape=(len(texts), buckets))
    width = max(1, min(width, len(texts) - 1, len(np.unique(columns)) - 1))
    svd = TruncatedSVD(width, algorithm="randomized", n_iter=7, random_state=0).fit(_unit_rows(matrix))
    components = np.ascontiguousarray(svd.components_.T, dtype=np.float32)
    components[frequency == 0] = 0  # rounding noise, which normalising would blow up
    return HashedText(idf, components)


def _unit_rows(matrix: Any) -> Any:
    import scipy.sparse as sp

    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sp.diags(1 / np.maximum(norms, 1e-12)) @ matrix


@dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """A sentence-transformers model from a local folder or hub name (extra ``content``)."""

    name: str
    model: Any
    width: int

    @classmethod
    def open(cls, name: str) -> SentenceEncoder:
        """Load the model; SettingError where the extra is missing or the model cannot be found."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise SettingError.expected(
                "content encoder",
                got=name,
                expected="the extra `content`",
                fix="pip install impulse[content]",
            ) from error
        try:
            model = SentenceTransformer(name, device="cpu")
        except (OSError, ValueError) as error:
            raise SettingError.expected(
                "content encoder", got=name, expected="a model folder or hub name", fix=str(error)[:200]
            ) from error
        return cls(name, model, int(model.get_sentence_embedding_dimension()))

    def encode(self, texts: Sequence[str]) -> F32:
        """Return `[A, F]`, one text at a time: a padded batch would change the last bits."""
        rows = [self.model.encode([text], show_progress_bar=False)[0] for text in texts]
        return normalised(np.array(rows, dtype=np.float32).reshape(len(texts), self.width))

    def manifest(self) -> dict[str, Any]:
        """Return the model's name; its weights stay where they are."""
        return {"kind": "sentence", "version": 1, "width": self.width, "name": self.name}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return nothing: the model is not part of the artifact."""
        return {}


@dataclass(frozen=True, eq=False)
class CatalogueVector:
    """The vector that the catalogue's records bring (image, audio, video by any encoder)."""

    width: int

    def encode(self, texts: Sequence[str]) -> F32:
        """Return zeros: a text says nothing to this encoder; see `content_vectors`."""
        return np.zeros((len(texts), self.width), np.float32)

    def manifest(self) -> dict[str, Any]:
        """Return the kind and its width."""
        return {"kind": "catalogue_vector", "version": 1, "width": self.width}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return nothing."""
        return {}


def restore(manifest: dict[str, Any] | None, tensors: dict[str, NDArray[Any]]) -> ContentEncoder | None:
    """Return the encoder that an artifact describes, None where it has none."""
    if manifest is None:
        return None
    match manifest.get("kind"):
        case "hashed_text":
            return HashedText(tensors["content_idf"], tensors["content_components"])
        case "sentence":
            return SentenceEncoder.open(str(manifest["name"]))
        case "catalogue_vector":
            return CatalogueVector(int(manifest["width"]))
    raise ArtifactError.expected(
        "content encoder", got=manifest.get("kind"), expected="a known kind", fix="train with this version"
    )


def content_vectors(
    encoder: ContentEncoder | None, texts: Sequence[str], vectors: Sequence[Sequence[float]] | None = None
) -> F32:
    """Return the content `[A, F]` of ads: of their own vectors for `CatalogueVector`, else of their texts.

    A vector of another width than the model's counts as none.
    """
    if encoder is None:
        return np.zeros((len(texts), 0), np.float32)
    if not isinstance(encoder, CatalogueVector):
        return encoder.encode(texts)
    rows = np.zeros((len(texts), encoder.width), np.float32)
    for row, vector in enumerate(vectors or ()):
        if len(vector) == encoder.width:
            rows[row] = vector
    return normalised(rows)


def normalised(rows: F32) -> F32:
    """Return rows `[A, F]` divided by their norms; zero and non-finite rows become zero."""
    rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0)
    norms = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return (rows / np.where(norms > SILENCE, norms, np.inf)).astype(np.float32)
