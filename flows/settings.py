"""All settings, typed: from the environment (``IMPULSE_...``), a TOML file and defaults, in this order.

What influences decisions is not here: it comes through the log (policy, catalogue, model). These
settings say where things are, how large they may grow, and how the processes are laid out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from connectors.client import KafkaConfig, is_secret
from models.domain.errors import SettingError
from models.policy.traffic import TrafficPlan

from .setting_names import FILE_VARIABLE, PREFIX, explained, unknown_variables, unreadable_variables


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kafka(_Section):
    """How to reach the cluster; ``extra`` passes further librdkafka settings through."""

    bootstrap_servers: str = Field("localhost:9092", description="HOST:PORT[,HOST:PORT...]")
    security_protocol: str = Field(
        "PLAINTEXT",
        pattern="^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$",
        description="`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`",
    )
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_location: str | None = None
    ssl_certificate_location: str | None = None
    ssl_key_location: str | None = None
    ssl_key_password: SecretStr | None = None
    extra: dict[str, str | int | float | bool] = Field(
        default_factory=dict, repr=False, description="further settings of librdkafka, by its names"
    )

    @field_serializer("extra", when_used="json")
    def _without_secrets(self, extra: dict[str, str | int | float | bool]) -> dict[str, Any]:
        return {name: "***" if is_secret(name) else value for name, value in extra.items()}

    def config(self) -> KafkaConfig:
        """Return what the connectors take."""
        plain = self.model_dump()
        for name in ("sasl_password", "ssl_key_password"):
            secret = plain[name]
            plain[name] = secret.get_secret_value() if secret is not None else None
        return KafkaConfig(**plain)


class Topics(_Section):
    """Names and sizes of the topics."""

    events: str = "ads.events.v1"
    decisions: str = "ads.decisions.v1"
    outcomes: str = "ads.outcomes.v1"
    interests: str = "ads.interests.v1"
    dead_letters: str = "ads.events.v1.dlq"
    rollups: str = "ads.rollups.v1"
    partitions: int = Field(
        16, ge=1, le=4096, description="of events, decisions and outcomes, as `impulse topics` wants them"
    )
    replication: int = Field(-1, ge=-1, le=32767, description="-1: the cluster's default")
    retention_days: int = Field(
        7,
        ge=1,
        description="of events, decisions and interests; outcomes and dead letters stay four times as long",
    )

    @model_validator(mode="after")
    def _each_of_its_own(self) -> Topics:
        names = {"events": self.events, **self.by_stream()}
        del names["control"]  # which goes into the events
        shared = {name: [s for s in names if names[s] == name] for name in names.values()}
        for name, streams in shared.items():
            if len(streams) > 1:  # a flow that reads what it writes never comes to an end
                raise ValueError(f"a topic of its own for each; {name!r} is that of {' and '.join(streams)}")
        return self

    def by_stream(self) -> dict[str, str]:
        """Return the topic of each output stream."""
        return {
            "decisions": self.decisions,
            "outcomes": self.outcomes,
            "interests": self.interests,
            "dead_letters": self.dead_letters,
            "rollups": self.rollups,
            "control": self.events,
        }


class Bounds(_Section):
    """How large the state may grow; a recovery store keeps ``slices`` and ``history_length`` for good."""

    slices: int = Field(4, ge=1, le=256, description="shards per partition")
    users_per_shard: int = Field(8192, ge=1, description="the least recently seen user is forgotten beyond")
    decisions_per_shard: int = Field(
        4096, ge=1, description="decisions without a click that feedback can still join, and as many with one"
    )
    seen_ids_per_shard: int = Field(16384, ge=1, description="event ids remembered for removing repeats")
    history_length: int = Field(160, ge=1, description="events kept per user for the Transformer")
    kv_cache_users: int = Field(
        4096, ge=1, description="users whose Transformer state is kept hot, per process"
    )


class Settings(BaseSettings):
    """Everything `impulse run` and its siblings can be told."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    bounds: Bounds = Bounds()
    batch_size: int = Field(512, ge=1, le=65536, description="most records taken at once")
    linger_ms: float = Field(2.0, ge=0, description="longest wait of an output for others to share a request")
    model: Path | None = Field(None, description="model in force before the log names one; none: popularity")
    artifacts: Path = Field(Path("build/artifacts"), description="folder of models and catalogues by hash")
    group_id: str = Field("impulse-personalize", description="consumer group; for lag monitoring only")
    partitions: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, description="partitions of this process; none: all"
    )
    learner_engine: str = Field(
        "impulse",
        pattern="^(impulse|river_lr|river_adpredictor)$",
        description="`impulse`, `river_lr` or `river_adpredictor`",
    )
    pacing_plan: tuple[float, ...] = Field(
        (), description="known traffic of a day's 24 hours or 96 quarters (UTC); none: foretold, then learned"
    )
    pacing_first_mu: float | None = Field(
        None,
        ge=0,
        le=99,
        description="a campaign with a budget begins at its bid over 1 + this; none: by `pacing_delay_s`",
    )
    pacing_delay_s: float = Field(
        60.0, ge=1, le=86_400, description="how long after a decision its outcomes may reach the pacer"
    )
    recovery: Path | None = Field(
        None,
        description="folder of the flows' recovery stores, one per process of a flow; none: no recovery",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="port of Prometheus's `/metrics`, one per process; none: no metrics"
    )
    metrics_host: str = Field("127.0.0.1", description="address on which metrics are served")
    rollup_lateness_s: int = Field(
        60, ge=0, le=31_536_000, description="how long a campaign's minute waits for stragglers"
    )
    epoch_ms: int = Field(10_000, ge=10, description="time between two snapshots, with recovery")

    @field_validator("partitions")
    @classmethod
    def _distinct(cls, partitions: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if partitions is not None and not 0 < len(partitions) == len(set(partitions)):
            raise ValueError("at least one partition, each once")
        return partitions

    @field_validator("pacing_plan")
    @classmethod
    def _of_a_day(cls, plan: tuple[float, ...]) -> tuple[float, ...]:
        try:
            TrafficPlan.of(plan)
        except SettingError:
            raise ValueError("24 or 96 weights of 0 or more, not all 0") from None
        return plan

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let arguments win over the environment, and the environment over the file."""
        file = os.environ.get(FILE_VARIABLE)
        toml = (TomlConfigSettingsSource(settings_cls, Path(file)),) if file else ()
        return (init_settings, env_settings, *toml)

    @model_validator(mode="before")
    @classmethod
    def _without_own_variable(cls, values: Any) -> Any:
        if isinstance(values, dict):
            values.pop("settings", None)
        return values


def load_settings(file: Path | None = None, **overrides: Any) -> Settings:
    """Return the settings, or stop with what is wrong, what was found and how to mend it.

    Raises
    ------
    SettingError
        for a missing file, an unknown name or variable, or a value that cannot be.

    """
    if file is not None:
        os.environ[FILE_VARIABLE] = str(file)
    named = os.environ.get(FILE_VARIABLE)
    if named and not Path(named).is_file():
        raise SettingError.expected(
            "settings file",
            got=named,
            expected="an existing TOML file",
            fix="give --settings FILE a path that exists",
        )
    if unknown := unknown_variables(Settings, os.environ):
        raise SettingError("\n".join(unknown))
    try:
        return Settings(**overrides)
    except ValidationError as error:
        wrong = unreadable_variables(Settings, os.environ)
        wrong = wrong or [explained(Settings, problem) for problem in error.errors()]
        raise SettingError("\n".join(wrong)) from None
    except SettingsError as error:
        unreadable = unreadable_variables(Settings, os.environ) or [f"settings: {error}"]
        raise SettingError("\n".join(unreadable)) from None
    except (OSError, ValueError) as error:
        raise SettingError(f"settings file {named}: {error}. Fix: write it as TOML.") from None
