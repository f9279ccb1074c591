"""Images to vectors by a CLIP-like encoder (Radford et al. 2021) from a local folder; extra ``content``.

The vectors go into the catalogue's records (`Ad.vector`), so serving needs neither the encoder nor torch.
A folder is what `save_pretrained` of the transformers library writes: ``config.json``,
``model.safetensors`` and, where there is one, ``preprocessor_config.json``.
Legend: A images, S side of the encoder's input, F width.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import BadRecord, ImpulseError, SettingError

from .vectors import F32, normalised

PREPROCESSOR_FILE = "preprocessor_config.json"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
LARGEST_IMAGE = 64 << 20
"""Pixels; a larger image is refused before it is unpacked."""


@dataclass(frozen=True)
class Preparation:
    """How an image becomes the encoder's input `[3, S, S]`.

    ``shortest`` scales the shorter edge to ``resize`` and cuts the middle out; else both edges are scaled.
    """

    side: int
    resize: int
    shortest: bool = True
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD

    @classmethod
    def of(cls, folder: Path, side: int) -> Preparation:
        """Read a folder's own values; CLIP's where it says nothing. ``side`` is what the network takes."""
        path = folder / PREPROCESSOR_FILE
        said = json.loads(path.read_text()) if path.is_file() else {}
        size = said.get("size", side)
        sizes = size if isinstance(size, dict) else {"shortest_edge": size}
        shortest = "shortest_edge" in sizes
        resize = int(sizes["shortest_edge"] if shortest else sizes.get("height", side))
        mean, std = said.get("image_mean", CLIP_MEAN), said.get("image_std", CLIP_STD)
        return cls(side, max(resize, side), shortest, tuple(mean), tuple(std))

    def __call__(self, data: bytes) -> F32:
        """Return the pixels `[3, S, S]` of a packed image; BadRecord where it is none."""
        from PIL import Image

        try:
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > LARGEST_IMAGE:
                raise BadRecord("too_large", f"image: got {image.size}. Fix: scale it down.")
            scaled = self._scaled(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadRecord("not_an_image", f"image: {error}. Fix: send JPEG, PNG or WebP.") from error
        left, top = (scaled.width - self.side) // 2, (scaled.height - self.side) // 2
        cut = scaled.crop((left, top, left + self.side, top + self.side))
        pixels: F32 = np.asarray(cut, dtype=np.float32) / np.float32(255)  # [S, S, 3]
        mean: F32 = np.asarray(self.mean, dtype=np.float32)
        std: F32 = np.asarray(self.std, dtype=np.float32)
        pixels = (pixels - mean) / std
        return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)

    def _scaled(self, image: Any) -> Any:
        from PIL import Image

        width = height = self.resize
        if self.shortest:
            short = min(image.size)
            width, height = (max(self.resize, edge * self.resize // short) for edge in image.size)
        return image.resize((width, height), Image.Resampling.BICUBIC)


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """The image half of a CLIP-like model: anything whose network has ``get_image_features``."""

    network: Any
    prepare: Preparation
    width: int

    @classmethod
    def open(cls, folder: Path) -> ImageEncoder:
        """Load the model; SettingError where the extra is missing or the folder holds no such model."""
        if not (folder / "config.json").is_file():
            raise _unusable(folder, "no config.json there")
        try:
            from transformers import AutoModel
        except ImportError as error:
            raise SettingError.expected(
                "image encoder", got=str(folder), expected="the extra `content`",
                fix="pip install impulse[content]",
            ) from error  # fmt: skip
        try:
            network = AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
            prepare = Preparation.of(folder, int(network.config.vision_config.image_size))
        except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            raise _unusable(folder, str(error)) from error
        if not hasattr(network, "get_image_features"):
            raise _unusable(folder, f"{type(network).__name__} encodes no images")
        network.eval()
        blank = np.zeros((1, 3, prepare.side, prepare.side), np.float32)
        return cls(network, prepare, features(network, blank).shape[1])

    def encode(self, images: Sequence[bytes | Path]) -> F32:
        """Return `[A, F]` of norm 1, one image at a time: a batch would change the last bits.

        Raises
        ------
        BadRecord
            where bytes are no image.

        """
        rows = np.zeros((len(images), self.width), np.float32)
        for row, image in enumerate(images):
            data = image.read_bytes() if isinstance(image, Path) else image
            rows[row] = features(self.network, self.prepare(data)[None])[0]
        return normalised(rows)


def features(network: Any, pixels: F32) -> NDArray[np.float32]:
    """Return the image features `[A, F]` of pixels `[A, 3, S, S]`; the library's versions differ in form."""
    import torch

    with torch.no_grad():
        found = network.get_image_features(pixel_values=torch.from_numpy(pixels))
    found = getattr(found, "pooler_output", found)
    return np.asarray(found.float().numpy(), dtype=np.float32)


def _unusable(folder: Path, why: str) -> ImpulseError:
    return SettingError.expected(
        "image encoder", got=str(folder), expected="a folder with a CLIP-like model",
        fix=f"save one there with save_pretrained ({why[:200]})",
    )  # fmt: skip
