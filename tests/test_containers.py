"""The container files: valid, closed by default, and only with options that their programs have."""

import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from serve.tgi_plan import IMAGE

ROOT = Path(__file__).parent.parent
SERVE = ROOT / "serve"
# Text-generation-inference 3.3.7, launcher/src/main.rs: every option; each is a variable, too.
LAUNCHER = [
    "model-id",
    "revision",
    "validation-workers",
    "sharded",
    "num-shard",
    "quantize",
    "speculate",
    "dtype",
    "kv-cache-dtype",
    "trust-remote-code",
    "max-concurrent-requests",
    "max-best-of",
    "max-stop-sequences",
    "max-top-n-tokens",
    "max-input-tokens",
    "max-input-length",
    "max-total-tokens",
    "waiting-served-ratio",
    "max-batch-prefill-tokens",
    "max-batch-total-tokens",
    "max-waiting-tokens",
    "max-batch-size",
    "cuda-graphs",
    "hostname",
    "port",
    "prometheus-port",
    "cuda-memory-fraction",
    "json-output",
    "otlp-endpoint",
    "cors-allow-origin",
    "api-key",
    "tokenizer-config-path",
    "disable-grammar-support",
    "env",
    "max-client-batch-size",
    "lora-adapters",
    "usage-stats",
    "payload-limit",
    "enable-prefill-logprobs",
    "graceful-termination-timeout",
    "disable-custom-kernels",
]
ONLY_VARIABLES = {"HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "COMPUTE_TYPE", "LOG_LEVEL"}
# vLLM's server, docs of `vllm serve`.
VLLM = {
    "model",
    "max-model-len",
    "gpu-memory-utilization",
    "tensor-parallel-size",
    "enable-lora",
    "lora-modules",
    "served-model-name",
    "dtype",
}
PROFILES = {"tgi": {"tgi"}, "vllm": {"vllm"}, "cpu": {"cpu"}, "app": {"app", "postgres", "redis"}}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((SERVE / "compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(compose["services"])


@pytest.mark.lengthy
def test_the_file_is_what_the_compose_specification_allows(compose: dict[str, Any]) -> None:
    vendored = resources.files("check_jsonschema.builtin_schemas.vendor")
    schema = json.loads(vendored.joinpath("compose-spec.json").read_text())
    jsonschema_rs.validate(schema, compose)


def test_a_misspelt_key_would_be_found(compose: dict[str, Any]) -> None:
    vendored = resources.files("check_jsonschema.builtin_schemas.vendor")
    schema = json.loads(vendored.joinpath("compose-spec.json").read_text())
    services = {**compose["services"], "tgi": {**compose["services"]["tgi"], "port": []}}
    assert not jsonschema_rs.is_valid(schema, {**compose, "services": services})


def test_a_client_takes_the_file_where_there_is_one(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("there is no docker compose here; the schema is checked above")
    lines = (SERVE / "env.example").read_text().splitlines()
    filled = [f"{line}x" if re.fullmatch(r"[A-Z_]+=", line) else line for line in lines]
    (tmp_path / "env").write_text("\n".join(filled))
    command = [docker, "compose", "--env-file", str(tmp_path / "env")]
    command += ["--file", str(SERVE / "compose.yaml"), "--profile", "*", "config", "--quiet"]
    subprocess.run(command, check=True)


def test_each_profile_starts_its_services(services: dict[str, dict[str, Any]]) -> None:
    found: dict[str, set[str]] = {}
    for name, service in services.items():
        for profile in service["profiles"]:
            found.setdefault(profile, set()).add(name)
    assert found == PROFILES


def test_nothing_listens_to_the_world(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == 4 and all(port.startswith("127.0.0.1:") for port in ports)


def test_no_key_or_password_has_a_default(compose: dict[str, Any]) -> None:
    text = (SERVE / "compose.yaml").read_text()
    for name in ("SERVE_API_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "CHATKIT_MASTER_KEY"):
        uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", text)
        assert uses and all(use.startswith(":?") for use in uses)
    lines = (SERVE / "env.example").read_text().splitlines()
    assert all(line.endswith("=") for line in lines if line and not line.startswith("#"))


def test_every_variable_that_must_be_set_is_in_the_example() -> None:
    needed = set(re.findall(r"\$\{([A-Z_]+):\?", (SERVE / "compose.yaml").read_text()))
    named = set(re.findall(r"^([A-Z_]+)=", (SERVE / "env.example").read_text(), re.MULTILINE))
    assert needed <= named


@pytest.mark.parametrize("name", ["tgi", "vllm", "cpu", "app", "postgres", "redis"])
def test_each_service_is_limited_watched_and_without_privileges(
    services: dict[str, dict[str, Any]], name: str
) -> None:
    service = services[name]
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "healthcheck" in service or service["image"] == "chatkit:local"
    assert not service.get("privileged")


def test_servers_may_finish_their_answers(services: dict[str, dict[str, Any]]) -> None:
    for name in ("tgi", "vllm", "cpu"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) >= 90


def test_the_card_is_reserved_and_the_start_may_take_long(
    services: dict[str, dict[str, Any]],
) -> None:
    for name in ("tgi", "vllm"):
        service = services[name]
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]
        assert service["shm_size"] == "1g"
        assert service["healthcheck"]["start_period"] == "1800s"


def test_tgi_has_every_variable_that_is_set(services: dict[str, dict[str, Any]]) -> None:
    known = {option.upper().replace("-", "_") for option in LAUNCHER} | ONLY_VARIABLES
    assert set(services["tgi"]["environment"]) <= known
    assert services["tgi"]["image"] == IMAGE
    # Docker sets it, and TGI would take it for an address.
    assert "HOSTNAME" not in services["tgi"]["environment"]
    assert services["tgi"]["environment"]["USAGE_STATS"] == "off"


def test_vllm_has_every_option_that_is_given(services: dict[str, dict[str, Any]]) -> None:
    words = services["vllm"]["command"]
    assert {word.removeprefix("--") for word in words if word.startswith("--")} <= VLLM


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, with lines that go on put together."""
    text = re.sub(r"\\\n\s*", "", (SERVE / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def test_the_image_copies_only_what_there_is_and_what_is_not_ignored() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = [
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists() and source in allowed


def test_the_image_runs_as_nobody_special_and_is_watched() -> None:
    words = [word for word, _ in instructions()]
    (user,) = [rest for word, rest in instructions() if word == "USER"]
    assert user == "chatkit" and words.index("USER") < words.index("ENTRYPOINT")
    assert "HEALTHCHECK" in words


def test_each_stage_is_used() -> None:
    stages = [rest.split(" AS ")[1] for word, rest in instructions() if word == "FROM"]
    used = [rest for word, rest in instructions() if word == "COPY" and "--from" in rest]
    assert stages[-1] == "run"
    assert all(any(f"--from={stage}" in rest for rest in used) for stage in stages[:-1])


def test_the_secrets_of_the_machine_stay_out_of_the_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*" and "serve/.env" in ignored


def test_the_start_script_is_a_shell_script_and_knows_what_it_runs(tmp_path: Path) -> None:
    script = SERVE / "start.sh"
    subprocess.run(["sh", "-n", str(script)], check=True)
    wrong = subprocess.run(["sh", str(script), "nothing"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "use engine or app" in wrong.stderr
    # What it calls says with which words it was called.
    (tmp_path / "python").write_text('#!/bin/sh\necho python "$@"\n')
    (tmp_path / "python").chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    run = ["sh", str(script), "engine", "smollm2-135m", "--tgi-compat"]
    said = subprocess.run(run, env=path, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        "python -m chatkit pull smollm2-135m",
        "python -m serve engine --model smollm2-135m --host 0.0.0.0 --port 8080 --tgi-compat",
    ]
    app = subprocess.run(
        ["sh", str(script), "app"], env=path, capture_output=True, text=True, check=True
    ).stdout
    assert "python -m serve app --host 0.0.0.0 --port 8080 --metrics" in app
