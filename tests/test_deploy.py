"""The files in deploy/: well formed, in agreement, and with commands that the programs take."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

import scripts.evaluate  # noqa: F401  makes its settings known
from stepwise.cli.main import parser
from stepwise.gateway.redis_accounts import DOWN
from stepwise.store.redis_server import read_address
from tests.stepwise.gateway.serving import app_of

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())
GATEWAYS = yaml.safe_load((DEPLOY / "docker-compose.gateway.yaml").read_text())
MANIFESTS = [
    document
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]
REQUIRED = {
    "Service": {"selector", "ports"},
    "StatefulSet": {"serviceName", "selector", "template"},
    "Deployment": {"selector", "template"},
    "PersistentVolumeClaim": {"accessModes", "resources"},
    "PodDisruptionBudget": {"selector"},
    "RayJob": {"entrypoint", "rayClusterSpec"},
}
ENTRYPOINTS = {
    "compose": COMPOSE["services"]["evaluate"]["command"][-1],
    "kubernetes": next(m for m in MANIFESTS if m["kind"] == "RayJob")["spec"]["entrypoint"],
    "slurm": (DEPLOY / "evaluate.sbatch").read_text(),
}


def overrides(text: str) -> list[str]:
    """The arguments of the evaluation in a script, with what the shell would put in."""
    text = text.replace("\\\n", " ").replace("${WORKERS:-4}", "4").replace("$STORE", "redis://redis:6379/0")
    command = next(line for line in text.splitlines() if "scripts.evaluate" in line)
    return shlex.split(command.partition("scripts.evaluate")[2])


@pytest.mark.parametrize("name", sorted(ENTRYPOINTS))
def test_commands_compose_and_name_a_cluster_and_a_shared_store(name: str) -> None:
    with initialize_config_dir(str(ROOT / "configs"), version_base=None):
        cfg = compose("evaluate", overrides=overrides(ENTRYPOINTS[name]))
    assert cfg.cluster.address and read_address(cfg.store, "store", "volatile").host


@pytest.mark.parametrize("file", [COMPOSE, GATEWAYS], ids=["cluster", "gateway"])
def test_services_of_a_compose_file_refer_to_each_other(file: Any) -> None:
    services = file["services"]
    for service in services.values():
        assert "image" in service and set(service.get("depends_on", ())) <= services.keys()
        for kind in ("secrets", "configs"):
            named = {entry if isinstance(entry, str) else entry["source"] for entry in service.get(kind, ())}
            assert named <= file.get(kind, {}).keys()
        assert not service.get("build") or (ROOT / service["build"]["dockerfile"]).is_file()


def test_the_nodes_of_the_compose_file_are_services() -> None:
    services = COMPOSE["services"]
    text = (DEPLOY / "docker-compose.yaml").read_text()
    hosts = set(re.findall(r"(?:redis://|address=)([a-z]+):\d+", text))
    assert hosts == {"redis", "evaluate"} and hosts <= services.keys()


def gateway_pod() -> Any:
    return next(m for m in MANIFESTS if m["kind"] == "Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_gateways_are_served_as_the_command_line_takes_it_and_share_accounts_that_are_kept(
    where: str,
) -> None:
    if where == "compose":
        servers = GATEWAYS["services"]
        command, settings = servers["gateway"]["command"][1:], servers["accounts"]["command"]
        wait, grace = 0, int(servers["gateway"]["stop_grace_period"].removesuffix("s"))
    else:
        (container,) = gateway_pod()["containers"]
        command = [*container["command"][1:], *container["args"]]
        servers = {m["metadata"]["name"]: m for m in MANIFESTS if m["kind"] == "Service"}
        accounts = next(m for m in MANIFESTS if m["kind"] == "StatefulSet" and "accounts" in str(m))
        settings = accounts["spec"]["template"]["spec"]["containers"][0]["args"]
        wait = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
        grace = gateway_pod()["terminationGracePeriodSeconds"]
    options = parser().parse_args(command)
    state = read_address(options.state, "state", "down")
    assert state.host in servers and state.options["down"] in DOWN
    assert "noeviction" in settings and "--appendonly" in settings
    assert options.keys and grace > wait + options.drain


def test_probes_ask_what_the_gateway_answers() -> None:
    (container,) = gateway_pod()["containers"]
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    asked = re.findall(r"localhost:8700(/\w+)", str(GATEWAYS["services"]["gateway"]["healthcheck"]))
    known = {getattr(route, "path", "") for route in app_of().routes}
    assert paths == {"/health", "/ready"} and {*paths, *asked} <= known
    assert container["ports"][0]["containerPort"] == parser().parse_args(["serve"]).port


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_manifests_have_what_their_kind_requires(manifest: Any) -> None:
    assert manifest["apiVersion"] and REQUIRED[manifest["kind"]] <= manifest["spec"].keys()
    for container in containers(manifest):
        assert container["image"] and container["resources"]["limits"]["memory"]


def test_manifests_agree_with_each_other_and_with_the_pinned_versions() -> None:
    by_kind = {(m["kind"], m["metadata"]["name"]): m["spec"] for m in MANIFESTS}
    job = by_kind["RayJob", "stepwise-evaluate"]
    assert ("Service", read_address(store_of(job["entrypoint"]), "store").host) in by_kind
    pods = by_kind["StatefulSet", "stepwise-redis"]["template"]["metadata"]["labels"]
    assert by_kind["Service", "stepwise-redis"]["selector"] == pods
    cluster = job["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in head["volumes"]]
    assert all(("PersistentVolumeClaim", claim) in by_kind for claim in claims)
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()
    assert f"cluster.workers={cluster['workerGroupSpecs'][0]['replicas']}" in job["entrypoint"]


def test_the_batch_script_is_a_shell_script() -> None:
    subprocess.run(["bash", "-n", str(DEPLOY / "evaluate.sbatch")], check=True)


def store_of(command: str) -> str:
    return next(word for word in command.split() if word.startswith("store=")).removeprefix("store=")


def containers(node: Any) -> list[Any]:
    """Every container, however deep in a manifest."""
    if isinstance(node, dict):
        inner = [container for value in node.values() for container in containers(value)]
        return [*node.get("containers", []), *inner]
    return [container for value in node for container in containers(value)] if isinstance(node, list) else []
