"""The image and the compose file run what exists, with settings that exist."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path

import pytest
import typer
import yaml

from connectors.mapping import read_mappings
from flows.cli import app
from flows.recovery import recovery_store
from flows.setting_names import PREFIX
from flows.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "impulse"}
COMMANDS = typer.main.get_group(app).commands


def test_it_runs_a_kafka_and_every_part_of_the_loop():
    assert COMPOSE["services"]["kafka"]["image"] == "apache/kafka:4.1.1"
    assert {"topics", "run", "learn", "rollup", "ingest"} == OURS.keys()


def test_prometheus_asks_the_services_that_serve_metrics():
    (job,) = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    (targets,) = (group["targets"] for group in job["static_configs"])
    assert targets == [
        f"{name}:{OURS[name]['environment']['IMPULSE_METRICS_PORT']}" for name in ("run", "learn")
    ]
    mounted = COMPOSE["services"]["prometheus"]["volumes"]
    assert "./prometheus.yml:/etc/prometheus/prometheus.yml:ro" in mounted


def test_grafana_draws_metrics_that_exist_from_the_prometheus_beside_it():
    board = json.loads((DOCKER / "grafana" / "impulse.json").read_text())
    drawn = set(re.findall(r"impulse_\w+", json.dumps(board)))
    kinds = r"(?:_total|_bucket)?$"
    assert drawn and {re.sub(kinds, "", name) for name in drawn} <= set(
        re.findall(r'"(impulse_\w+)"', (ROOT / "flows" / "metrics.py").read_text())
    )
    (source,) = yaml.safe_load((DOCKER / "grafana" / "datasource.yml").read_text())["datasources"]
    assert {target["datasource"]["uid"] for panel in board["panels"] for target in panel["targets"]} == {
        source["uid"]
    }
    for mount in COMPOSE["services"]["grafana"]["volumes"]:
        assert (DOCKER / mount.partition(":")[0]).is_file()


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_of_the_command_line_with_options_that_it_has(name):
    command, *arguments = OURS[name]["command"]
    COMMANDS[command].make_context(command, arguments)  # parses, does not run


@pytest.mark.parametrize("name", OURS)
def test_its_environment_is_settings_that_exist(name, monkeypatch):
    variables = OURS[name]["environment"]
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    for variable in variables:
        found: object = settings
        for part in variable.removeprefix(PREFIX).lower().split("__"):
            found = getattr(found, part)
        assert str(found) == variables[variable]


def test_the_image_sets_only_settings_that_exist():
    names = set(re.findall(rf"{PREFIX}(\w+)=", DOCKERFILE))
    assert names
    assert {name.lower() for name in names} <= Settings.model_fields.keys()


def test_the_services_that_share_a_folder_share_no_recovery_store(tmp_path):
    (folder,) = {service["environment"]["IMPULSE_RECOVERY"] for service in OURS.values()}
    chosen = Settings(recovery=tmp_path / folder.lstrip("/"))
    with ExitStack() as held:  # a store that another had would be refused
        for flow_id in ("personalize", "learn", "rollup", "ingest"):
            assert held.enter_context(recovery_store(flow_id, chosen)) is not None
    assert len({tuple(service["command"]) for service in OURS.values()}) == len(OURS)


def test_the_image_copies_what_exists_and_runs_without_root_on_one_thread():
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER impulse$", last_stage, re.MULTILINE)
    assert "OMP_NUM_THREADS=1" in last_stage
    assert DOCKERFILE.count("FROM python:3.11-slim") == 2


def test_compiled_kernels_that_outlive_the_image_are_told_apart_by_their_sources():
    """numba does not notice a change in a kernel that another one calls; `flows.environment` does."""
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "XDG_CACHE_HOME=/var/lib/impulse/" in last_stage and "NUMBA_CACHE_DIR" not in last_stage


def test_torch_comes_from_the_index_of_cpu_builds():
    (line,) = [line for line in DOCKERFILE.splitlines() if line.endswith(" torch")]
    assert "--index-url https://download.pytorch.org/whl/cpu" in line
    assert "-c docker/constraints.txt" in line


def test_constraints_name_what_the_project_depends_on():
    project = (ROOT / "pyproject.toml").read_text()
    for line in (DOCKER / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert f'"{line.partition("==")[0]}' in project


def test_the_example_mapping_is_one_that_ingest_takes():
    (mapping,) = read_mappings(DOCKER / "ingest.toml")
    assert mapping.topic == "shop.clickstream"


def test_the_topic_that_the_example_mapping_reads_is_created_where_kafka_creates_none_by_itself():
    (mapping,) = read_mappings(DOCKER / "ingest.toml")
    service = COMPOSE["services"]["raw-topic"]
    assert {"--create", "--if-not-exists", mapping.topic} <= set(service["command"])
    assert service["profiles"] == OURS["ingest"]["profiles"]


def test_what_a_service_mounts_from_here_exists():
    for service in OURS.values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (DOCKER / source).is_file()


def test_services_wait_for_the_topics_and_the_topics_for_kafka():
    done, healthy = "service_completed_successfully", {"kafka": "service_healthy"}
    awaited = {name: {"topics": done} for name in OURS} | {"topics": healthy, "raw-topic": healthy}
    awaited["ingest"] = {"topics": done, "raw-topic": done}
    for name, conditions in awaited.items():
        found = COMPOSE["services"][name]["depends_on"]
        assert {n: w["condition"] for n, w in found.items()} == conditions
    assert COMPOSE["services"]["kafka"]["healthcheck"]["test"]
