"""Topics of one test, and what tells the product's own processes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from connectors.client import KafkaConfig


class Topics(NamedTuple):
    """Fresh topics by the name of their setting, in capitals."""

    config: KafkaConfig
    names: dict[str, str]

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the settings of processes that keep what they keep in this folder."""
        named = {f"IMPULSE_TOPICS__{stream}": name for stream, name in self.names.items()}
        return named | {
            "IMPULSE_KAFKA__BOOTSTRAP_SERVERS": self.config.bootstrap_servers,
            "IMPULSE_ARTIFACTS": str(folder / "artifacts"),
            "IMPULSE_RECOVERY": str(folder / "recovery"),
            "IMPULSE_EPOCH_MS": "200",
            "IMPULSE_BATCH_SIZE": "64",
        }


NewTopics = Callable[[Mapping[str, int]], Topics]
