"""The engines by name."""

from __future__ import annotations

from collections.abc import Callable

from models.domain.errors import SettingError

from .impulse import ImpulseEngine
from .priors import DEFAULT_PRIORS, Priors
from .protocol import Engine
from .river_adpredictor import RiverAdPredictorEngine
from .river_lr import RiverLrEngine

_MAKERS: dict[str, Callable[[Priors], Engine]] = {
    "impulse": ImpulseEngine,
    "river_lr": RiverLrEngine,
    "river_adpredictor": RiverAdPredictorEngine,
}

ENGINES = tuple(_MAKERS)


def make_engine(name: str, priors: Priors = DEFAULT_PRIORS) -> Engine:
    """Return a fresh engine; raises SettingError for an unknown name."""
    if name not in _MAKERS:
        raise SettingError(f"engine: got {name!r}, expected one of {ENGINES}. Fix: choose one of them.")
    return _MAKERS[name](priors)
