"""Which classes of users the simulated ads may be shown to, as flags and as the targeting that says so.

Legend: n ads, G classes of users that targeting tells apart (country x device).
"""

from __future__ import annotations

import numpy as np

from .draws import uniform
from .population import I64, Bools, pick
from .world_config import WorldConfig


def allowed_classes(config: WorldConfig, rows: I64) -> Bools:
    """Return `[n, G]`: a targeted ad keeps one country out of sight, and half of them one device too."""
    n_countries, n_devices = len(config.traffic.countries), len(config.traffic.devices)
    allowed = np.ones((len(rows), n_countries, n_devices), dtype=np.bool_)
    u = uniform(config.seed, "targeted", rows)
    some = np.flatnonzero(u < config.inventory.targeted_share)
    if n_countries > 1:
        allowed[some, pick(config.seed, "not country", rows[some], n_countries), :] = False
    half = np.flatnonzero(u < config.inventory.targeted_share / 2)
    if n_devices > 1:
        allowed[half, :, pick(config.seed, "not device", rows[half], n_devices)] = False
    return allowed.reshape(len(rows), -1)


def targeting_by(config: WorldConfig, allowed: Bools) -> str:
    """Return the expression that `allowed` `[G]` stands for."""
    traffic = config.traffic
    grid = allowed.reshape(len(traffic.countries), len(traffic.devices))
    axes: list[tuple[str, tuple[str, ...], list[bool]]] = [
        ("country", traffic.countries, np.any(grid, axis=1).tolist()),
        ("device", traffic.devices, np.any(grid, axis=0).tolist()),
    ]
    terms = []
    for name, values, keep in axes:
        kept = [f'"{v}"' for v, ok in zip(values, keep, strict=True) if ok]
        if len(kept) < len(values):
            terms.append(f"{name} in ({', '.join(kept)})" if len(kept) > 1 else f"{name} == {kept[0]}")
    return " and ".join(terms)
