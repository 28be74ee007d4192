"""Diagnosis of what was seen: vLLM's last words, and pods as a kubelet describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.diagnosis import Cause, causes, diagnose, termination
from helpers import pods

Object = dict[str, Any]

CAPTURES = Path(__file__).parent / "captures"

NOTED = {
    "adapter-missing": (
        causes.MODEL_NOT_FOUND,
        "Loading lora sql failed: No adapter found for /adapters/none.",
    ),
    "badweights": (causes.MODEL_UNUSABLE, "MemoryError: (in parse_safetensors_file_metadata)."),
    "cpu-memory": (
        causes.OUT_OF_MEMORY,
        "Available memory on node 0 (17.53/23.54 GiB) on startup is less than desired CPU memory",
    ),
    "cpu-no-kv": (causes.OUT_OF_MEMORY, "less than requested memory for kv (-0.32/0.24 GiB)."),
    "gpu-in-use": (
        causes.OUT_OF_GPU_MEMORY,
        "on startup is less than desired GPU memory utilization (0.9, 71.24 GiB).",
    ),
    "gpu-kv-cache-none": (causes.OUT_OF_GPU_MEMORY, "No available memory for the cache blocks."),
    "gpu-kv-cache-small": (
        causes.OUT_OF_GPU_MEMORY,
        "(4.0 GiB). Based on the available memory, the estimated maximum model length is 127776.",
    ),
    "gpu-out-of-memory": (
        causes.OUT_OF_GPU_MEMORY,
        "CUDA out of memory. Tried to allocate 896.00 MiB. GPU 0 has a total capacity of 93.09",
    ),
    "gs": (causes.IMAGE_UNUSABLE, "GCS files module not found."),
    "hub-badtoken": (causes.MODEL_UNAUTHORIZED, "Invalid credentials in Authorization header."),
    "hub-gated-401": (
        causes.MODEL_UNAUTHORIZED,
        "trying to access a gated repo. Make sure to have access to it at",
    ),
    "hub-gated-403": (
        causes.MODEL_UNAUTHORIZED,
        "trying to access a gated repo. Make sure to have access to it at",
    ),
    "hub-notfound": (
        causes.MODEL_NOT_FOUND,
        "acme/none is not a local folder and is not a valid model identifier.",
    ),
    "hub-notfound-token": (
        causes.MODEL_NOT_FOUND,
        "acme/none is not a local folder and is not a valid model identifier.",
    ),
    "hub-refused": (causes.MODEL_UNREACHABLE, "We couldn't connect to 'http://127.0.0.1:9'."),
    "hub-revision": (causes.MODEL_NOT_FOUND, "nope is not a valid git identifier."),
    "killed-worker": (causes.OUT_OF_MEMORY, "A process of the engine was killed"),
    "maxlen-kv": (causes.OUT_OF_GPU_MEMORY, "No available memory for the cache blocks."),
    "maxlen-model": (
        causes.BAD_ENGINE_ARGUMENT,
        "User-specified max_model_len (100000) is greater than the derived max_model_len",
    ),
    "missing-folder": (causes.MODEL_NOT_FOUND, "There is no such model: '/models/none'."),
    "noconfig": (
        causes.MODEL_NOT_FOUND,
        "Invalid repository ID or local directory specified: 'models/noconfig'.",
    ),
    "notokenizer": (causes.MODEL_UNUSABLE, "Couldn't instantiate the backend tokenizer."),
    "noweights": (
        causes.MODEL_UNUSABLE,
        "Cannot find any model weights with `models/noweights`.",
    ),
    "s3": (causes.MODEL_UNAUTHORIZED, "Unable to locate credentials."),
    "s3-refused": (
        causes.MODEL_UNREACHABLE,
        'Could not connect to the endpoint URL: "http://127.0.0.1:9/bucket".',
    ),
    "unknownarch": (
        causes.MODEL_UNUSABLE,
        "Model architectures ['FancyNewForCausalLM'] are not supported for now.",
    ),
    "unknowntype": (
        causes.MODEL_UNUSABLE,
        "model type `fancy_new` but Transformers does not recognize this architecture.",
    ),
    "wrongshape": (
        causes.MODEL_UNUSABLE,
        "start (0) + length (512) exceeds dimension size (128).",
    ),
}

LOGS = {
    "badarg": (causes.BAD_ENGINE_ARGUMENT, "unrecognized arguments: --no-such-option 1."),
    "cfg-choice": (
        causes.BAD_ENGINE_ARGUMENT,
        "argument --kv-cache-dtype: invalid choice: 'float3'",
    ),
    "cfg-unknown": (causes.BAD_ENGINE_ARGUMENT, "unrecognized arguments: --no-such-option 1."),
    "cfg-value": (
        causes.BAD_ENGINE_ARGUMENT,
        "argument --max-model-len: invalid human_readable_int_or_auto value: 'lots'.",
    ),
    "gpu-in-use-older": (causes.OUT_OF_GPU_MEMORY, "Free memory on device (3.22/4.0 GiB)"),
    "gpu-none": (causes.GPU_UNUSABLE, "Failed to infer device type."),
    "hub-gated-401": (causes.MODEL_UNAUTHORIZED, "trying to access a gated repo."),
    "hub-notfound": (causes.MODEL_NOT_FOUND, "acme/none is not a local folder"),
    "maxlen-model": (causes.BAD_ENGINE_ARGUMENT, "User-specified max_model_len (100000)"),
    "missing-hf-offline": (causes.MODEL_NOT_FOUND, "Cannot find an appropriate cached snapshot"),
    "notokenizer": (causes.MODEL_UNUSABLE, "Couldn't instantiate the backend tokenizer."),
    "template-missing": (
        causes.BAD_ENGINE_ARGUMENT,
        "The supplied chat template string (/etc/vllm/none.jinja) appears path-like",
    ),
    "tp2-cpu": (
        causes.BAD_ENGINE_ARGUMENT,
        "Total number of attention heads (2) must be divisible by tensor parallel size (3).",
    ),
    "unknowntype": (causes.MODEL_UNUSABLE, "model type `fancy_new`"),
}

SILENT_LOGS = ["noweights", "unknownarch"]
"""Whose last 2 KiB do not have the cause in them, which is what noting it is for."""


def cause_of(folder: str, name: str) -> Cause | None:
    return termination.explain((CAPTURES / folder / f"{name}.txt").read_text())


@pytest.mark.parametrize("name", sorted(NOTED))
def test_what_was_noted_tells_the_cause(name: str) -> None:
    reason, words = NOTED[name]
    cause = cause_of("noted", name)
    assert cause is not None
    assert (cause.reason, words in cause.message) == (reason, True), cause.message


@pytest.mark.parametrize("name", sorted(LOGS))
def test_the_end_of_the_log_tells_the_cause(name: str) -> None:
    reason, words = LOGS[name]
    cause = cause_of("log", name)
    assert cause is not None
    assert (cause.reason, words in cause.message) == (reason, True), cause.message


@pytest.mark.parametrize("name", SILENT_LOGS)
def test_the_end_of_some_logs_tells_nothing(name: str) -> None:
    assert cause_of("log", name) is None
    assert cause_of("noted", name) is not None


@pytest.mark.parametrize(("folder", "known"), [("noted", NOTED), ("log", LOGS)])
def test_every_capture_is_expected_to_say_something(folder: str, known: Object) -> None:
    seen = {path.stem for path in (CAPTURES / folder).iterdir()}
    assert seen - set(SILENT_LOGS) == set(known) - set(SILENT_LOGS)


@pytest.mark.parametrize("folder", ["noted", "log"])
def test_a_message_quotes_300_characters_at_most(folder: str) -> None:
    for path in (CAPTURES / folder).iterdir():
        cause = termination.explain(path.read_text())
        assert cause is None or len(cause.message) < 620, path.name


# -- pods -----------------------------------------------------------------------------------------


def seen_pods() -> list[Path]:
    return sorted((CAPTURES / "pods").iterdir())


@pytest.mark.parametrize("path", seen_pods(), ids=lambda path: path.stem)
def test_what_a_cluster_says_has_its_reason(path: Path) -> None:
    seen = json.loads(path.read_text())
    deployment = pods.deployment(conditions=seen.get("conditions", []))
    if engine := seen.get("engine"):
        template = deployment["spec"]["template"]
        template["spec"]["containers"] = [engine]
        template["metadata"]["annotations"] = {
            names.REVISION: seen["pod"]["metadata"]["annotations"][names.REVISION]
        }
    found = diagnose(
        deployment,
        [seen["pod"]] if "pod" in seen else [],
        now="2026-11-21T14:40:00Z",
        warnings=seen.get("warnings", ()),
    )
    assert found.cause is not None
    assert found.cause.reason == path.stem.partition("-")[0]


# -- what must never be quoted --------------------------------------------------------------------

PROMPT = "Dear assistant, my patient suffers from a rare condition"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(
            f'INFO 11-21 12:00:00 [logger.py:40] Received request: prompt: "{PROMPT}"', id="request"
        ),
        pytest.param(
            f"(APIServer pid=1) ERROR [serving.py:1] Error in preprocessing: {PROMPT}", id="error"
        ),
        pytest.param(f"  Value: {PROMPT}", id="value"),
    ],
)
def test_lines_without_a_sign_are_not_quoted(line: str) -> None:
    known = termination.explain(f"{line}\n{line}")
    assert known is None
    assert PROMPT not in termination.error(line)


@pytest.mark.parametrize(
    ("line", "struck"),
    [
        pytest.param(
            "ValueError: token hf_AbCdEfGhIjKlMnOp is refused", "hf_AbCd", id="token of the hub"
        ),
        pytest.param("ValueError: key sk-proj-0123456789abcdef", "sk-proj-0123", id="API key"),
        pytest.param(
            "ValueError: can't get https://ada:lovelace@models.example/x?sig=0123abcd",
            "lovelace",
            id="password in a URL",
        ),
        pytest.param(
            "ValueError: can't get https://models.example/x?sig=0123abcd&e=1",
            "0123abcd",
            id="query",
        ),
        pytest.param("ValueError: Authorization: Bearer eyJhbGciOi.abc", "eyJhbG", id="bearer"),
        pytest.param(
            "ValueError: AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalrX", id="variable"
        ),
        pytest.param("ValueError: {'api_key': 'abcdef0123'}", "abcdef0123", id="mapping"),
        pytest.param("ValueError: id AKIAIOSFODNN7EXAMPLE", "IOSFODNN7", id="access key"),
        pytest.param("ValueError: --x glpat-AbCdEfGh0123", "AbCdEfGh", id="GitLab"),
        pytest.param("ValueError: --x github_pat_AbCdEfGh0123", "AbCdEfGh", id="GitHub"),
        pytest.param("ValueError: --x gho_AbCdEfGh0123", "AbCdEfGh", id="GitHub's OAuth"),
        pytest.param("ValueError: --x nvapi-AbCdEfGh0123", "AbCdEfGh", id="NVIDIA"),
        pytest.param("ValueError: --x AIzaAbCdEfGh0123", "AbCdEfGh", id="Google"),
        pytest.param("ValueError: --x eyJhbGci.eyJzdWIi.c2ln", "c2ln", id="JWT"),
        pytest.param("ValueError: {'secret' : 'abcdef0123'}", "abcdef0123", id="loose mapping"),
    ],
)
def test_secrets_are_struck_out(line: str, struck: str) -> None:
    crashed = pods.crashing(line)
    found = diagnose(pods.deployment(), [crashed], now=pods.at(60)).cause
    assert found is not None
    assert found.reason == causes.CRASH_LOOP
    assert "ValueError" in found.message
    assert struck not in found.message


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        pytest.param(
            "vllm: error: unrecognized arguments: --x=open-sesame",
            causes.BAD_ENGINE_ARGUMENT,
            id="known",
        ),
        pytest.param("ValueError: open-sesame is no number", causes.CRASH_LOOP, id="unknown"),
    ],
)
def test_nothing_is_quoted_where_options_have_variables_in_them(said: str, reason: str) -> None:
    deployment = pods.deployment()
    engine = deployment["spec"]["template"]["spec"]["containers"][0]
    engine["args"] = ["--x=$(FROM_A_SECRET)"]
    found = diagnose(deployment, [pods.crashing(said)], now=pods.at(60)).cause
    assert found is not None
    assert found.reason == reason
    assert "sesame" not in found.message


@pytest.mark.parametrize(
    "words",
    ["max_num_batched_tokens=2048", "tokenizer='/models/tiny'", 'secret "hf-token" is gone'],
)
def test_what_only_sounds_like_a_secret_is_told(words: str) -> None:
    found = diagnose(pods.deployment(), [pods.crashing(f"ValueError: {words}")], now=pods.at(60))
    assert found.cause is not None
    assert words in found.cause.message


def test_an_error_that_is_not_known_is_quoted() -> None:
    said = "KeyError: 'lm_head.weight' (in load_weights)\nRuntimeError: See root cause above."
    found = diagnose(pods.deployment(), [pods.crashing(said)], now=pods.at(60)).cause
    assert found is not None
    assert found.message.startswith(
        "The engine ends with exit code 1 before it is up, and is started again:"
        " KeyError: 'lm_head.weight' (in load_weights). Its log has more:"
    )


def test_an_error_that_only_points_at_another_is_not_quoted() -> None:
    said = "RuntimeError: Engine core initialization failed. See root cause above."
    found = diagnose(pods.deployment(), [pods.crashing(said)], now=pods.at(60)).cause
    assert found is not None
    assert "root cause" not in found.message
