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

from .sentence import SentenceEncoder
from .vectors import F32, normalised
from .weights import tensor

BUCKETS = 4096
WIDTH = 64
WORDS = 128
WORD_BUCKETS = 1 << 15
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

    columns, counts, lengths = _counted(texts, buckets)
    frequency = np.bincount(columns, minlength=buckets)
    idf = _rarity(frequency, len(texts))
    starts = np.concatenate(([0], np.cumsum(lengths)))
    values = (1 + np.log(counts)) * idf[columns]
    matrix = sp.csr_matrix((values, columns, starts), shape=(len(texts), buckets))
    width = max(1, min(width, len(texts) - 1, len(np.unique(columns)) - 1))
    svd = TruncatedSVD(width, algorithm="randomized", n_iter=7, random_state=0).fit(_unit_rows(matrix))
    components = np.ascontiguousarray(svd.components_.T, dtype=np.float32)
    components[frequency == 0] = 0  # rounding noise, which normalising would blow up
    return HashedText(idf, components)


def fit_tfidf(texts: Sequence[str], width: int = WORDS, buckets: int = WORD_BUCKETS) -> HashedText:
    """Return plain TF-IDF: one axis for each of the ``width`` commonest words and pairs of the texts.

    Says less of rare words than `fit_hashed_text` does, and mixes nothing; it suits short texts whose
    common words (genres, classes, years) tell the most.
    """
    columns, _, _ = _counted(texts, buckets)
    frequency = np.bincount(columns, minlength=buckets)
    chosen = np.argsort(-frequency, kind="stable")[: min(width, int((frequency > 0).sum()))]
    components = np.zeros((buckets, len(chosen)), np.float32)
    components[chosen, np.arange(len(chosen))] = 1
    return HashedText(_rarity(frequency, len(texts)), components)


def _counted(texts: Sequence[str], buckets: int) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
    """Return the buckets of all texts end to end, their counts, and how many each text has."""
    found = [buckets_of(text, buckets) for text in texts]
    columns = np.concatenate([bucket for bucket, _ in found]) if found else np.zeros(0, np.int64)
    counts = np.concatenate([count for _, count in found]) if found else np.zeros(0, np.int64)
    if len(columns) == 0:
        raise SettingError.expected("ad texts", got="no word", expected="text", fix="train without content")
    return columns, counts, [len(bucket) for bucket, _ in found]


def _rarity(frequency: NDArray[np.int64], texts: int) -> F32:
    """Return the smoothed inverse document frequency of each bucket."""
    return (np.log((1 + texts) / (1 + frequency)) + 1).astype(np.float32)


def _unit_rows(matrix: Any) -> Any:
    import scipy.sparse as sp

    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sp.diags(1 / np.maximum(norms, 1e-12)) @ matrix


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


@dataclass(frozen=True, eq=False)
class Joined:
    """Text and the catalogue's own vector side by side, each of norm 1 before they are joined.

    ``media`` is the width of the catalogue's vectors; an ad that has only one of the two is known by it.
    """

    text: ContentEncoder
    media: int

    @property
    def width(self) -> int:
        """F"""
        return self.text.width + self.media

    def encode(self, texts: Sequence[str]) -> F32:
        """Return `[A, F]` of ads that have no vector of their own; see `content_vectors`."""
        return content_vectors(self, texts)

    def manifest(self) -> dict[str, Any]:
        """Return the kind, its width and the text encoder's manifest."""
        return {"kind": "joined", "version": 1, "width": self.width, "text": self.text.manifest()}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the text encoder's arrays."""
        return self.text.tensors()


def restore(manifest: dict[str, Any] | None, tensors: dict[str, NDArray[Any]]) -> ContentEncoder | None:
    """Return the encoder that an artifact describes, None where it has none."""
    if manifest is None:
        return None
    kind = manifest.get("kind") if isinstance(manifest, dict) else manifest
    match kind:
        case "hashed_text":
            return _hashed_text(int(manifest["width"]), tensors)
        case "joined":
            if (text := restore(manifest["text"], tensors)) is not None:
                return Joined(text, int(manifest["width"]) - text.width)
        case "sentence":
            return SentenceEncoder.again(manifest)
        case "catalogue_vector":
            return CatalogueVector(int(manifest["width"]))
    raise ArtifactError.expected(
        "content encoder", got=kind, expected="a known kind", fix="train with this version"
    )


def _hashed_text(width: int, tensors: dict[str, NDArray[Any]]) -> HashedText:
    buckets = max(len(tensors.get("content_idf", ())), 1)
    return HashedText(
        tensor(tensors, "content_idf", (buckets,)), tensor(tensors, "content_components", (buckets, width))
    )


def content_vectors(
    encoder: ContentEncoder | None, texts: Sequence[str], vectors: Sequence[Sequence[float]] | None = None
) -> F32:
    """Return the content `[A, F]` of ads: of their own vectors for `CatalogueVector`, else of their texts.

    `Joined` takes both. A vector of another width than the model's, or with a part that is no finite
    number, counts as none.
    """
    match encoder:
        case None:
            return np.zeros((len(texts), 0), np.float32)
        case CatalogueVector():
            return _own_vectors(encoder.width, len(texts), vectors)
        case Joined():
            media = _own_vectors(encoder.media, len(texts), vectors)
            return normalised(np.concatenate((encoder.text.encode(texts), media), axis=1))
    return encoder.encode(texts)


def _own_vectors(width: int, count: int, vectors: Sequence[Sequence[float]] | None) -> F32:
    rows = np.zeros((count, width), np.float32)
    with np.errstate(over="ignore"):  # a part too large for float32 becomes infinite, the vector none
        for row, vector in enumerate(vectors or ()):
            if len(vector) == width:
                rows[row] = np.asarray(vector, np.float64)
    return normalised(rows)
