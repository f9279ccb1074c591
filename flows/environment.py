"""What must hold in a process before numpy, numba or torch is imported."""

from __future__ import annotations

import os
import tempfile
from hashlib import blake2b
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def prepare() -> None:
    """Set one OpenMP thread and the folder of compiled kernels; what is set already stays.

    More OpenMP threads on busy cores fall to a twentieth of the speed of one. numba notices a change in
    the file of a kernel, not in that of a kernel it calls, so the folder is named by all of them.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "NUMBA_CACHE_DIR" not in os.environ:
        os.environ["NUMBA_CACHE_DIR"] = str(caches() / "impulse" / "kernels" / kernels_hash())


def caches() -> Path:
    """Return the user's folder of caches; the temporary one for a user without a home."""
    if found := os.environ.get("XDG_CACHE_HOME"):
        return Path(found)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return Path(tempfile.gettempdir())


def kernels_hash() -> str:
    """Return the hash of every source file that holds compiled code."""
    return sources_hash(b"njit")


def sources_hash(holding: bytes = b"") -> str:
    """Return the hash of the source files of `models` that hold a text."""
    digest = blake2b(digest_size=8)
    for path in sorted((ROOT / "models").rglob("*.py")):
        text = path.read_bytes()
        if holding in text:
            digest.update(text)
    return digest.hexdigest()
