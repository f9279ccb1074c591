"""Which content encoder a model gets: by name, fitted to the ads it is trained with.

| name       | content of an ad                                                             |
|------------|------------------------------------------------------------------------------|
| `default`  | `hashed` where two ads have a text, beside it the ads' own vectors           |
| `hashed`   | hashed words and pairs of words, TF-IDF, projected on the main axes          |
| `tfidf`    | the commonest words and pairs, TF-IDF, not projected                         |
| `none`     | nothing: ads are known by id and category                                    |
| any other  | a sentence encoder: local folder or hub name (extra `content`)               |

Where ads bring vectors of their own (image, audio, video), these stand beside the text's vector.
"""

from __future__ import annotations

from dataclasses import replace

from .content import CatalogueVector, ContentEncoder, Joined, content_vectors, fit_hashed_text, fit_tfidf
from .sentence import SentenceEncoder
from .sequences import AdTable
from .vectors import F32

DEFAULT = "default"
NONE = "none"


def default_encoder(ads: AdTable) -> ContentEncoder | None:
    """Return an encoder for what the ads bring: their texts, their vectors, both, or none."""
    return encoder_for(DEFAULT, ads)


def encoder_for(name: str, ads: AdTable) -> ContentEncoder | None:
    """Return the encoder of this name for these ads, None where they bring nothing that it reads.

    Raises
    ------
    SettingError
        where a sentence encoder is named and cannot be opened.

    """
    if name == NONE:
        return None
    media = 0 if ads.vector is None else ads.vector.shape[1]
    text = text_encoder(name, ads.text)
    if text is None:
        return CatalogueVector(media) if media else None
    return Joined(text, media) if media else text


def text_encoder(name: str, texts: tuple[str, ...]) -> ContentEncoder | None:
    """Return the encoder of this name fitted to texts; None where fewer than two say anything."""
    if sum(bool(text.strip()) for text in texts) < 2:
        return None
    match name:
        case "default" | "hashed":
            return fit_hashed_text(texts)
        case "tfidf":
            return fit_tfidf(texts)
    return SentenceEncoder.open(name)


def without_content(ads: AdTable) -> AdTable:
    """Return the ads without texts and vectors: what a model sees that is trained with `none`."""
    return replace(ads, text=(), vector=None)


def ads_content(encoder: ContentEncoder | None, ads: AdTable) -> F32:
    """Return the content `[A, F]` of the ads, F = 0 without an encoder."""
    texts = ads.text or ("",) * len(ads.key)
    return content_vectors(encoder, texts, None if ads.vector is None else ads.vector.tolist())
