"""How vLLM is told what to serve: command line and environment.

Names are those of vLLM 0.18 and newer. What the operator owns is on the command line, which wins
over the configuration file with what the user sets; the user's own arguments come last and win over
both (a later argument replaces an earlier one).
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from endpoint_operator import names
from endpoint_operator.api import options, values
from endpoint_operator.api.engine import EnvFromSource, EnvVar
from endpoint_operator.api.v1alpha1 import InferenceEndpoint, InferenceEndpointSpec
from endpoint_operator.desired import sources
from endpoint_operator.desired.canonical import canonical
from endpoint_operator.desired.files import (
    CA_PATH,
    CHAT_TEMPLATE_PATH,
    CONFIG_PATH,
    DIRECTORY,
    Files,
)

COMMAND: Final = (
    "sh",
    "-c",
    f'PYTHONPATH="{DIRECTORY}${{PYTHONPATH:+:$PYTHONPATH}}" exec vllm serve "$@"',
    "vllm",
)
"""Adds our folder to those of the image where Python looks for modules, which only a shell can;
then vLLM takes the shell's place, and with it every signal."""

HOME: Final = "/home/vllm"
CACHE: Final = "/var/cache/vllm"

ENVIRONMENT: Final = {
    # older images have no passwd entry for our user: Torch asks for a name, others for a home
    "HOME": HOME,
    "USER": "vllm",
    "LOGNAME": "vllm",
    "XDG_CACHE_HOME": f"{CACHE}/xdg",
    "HF_HOME": f"{CACHE}/huggingface",
    "VLLM_CACHE_ROOT": f"{CACHE}/vllm",
    "VLLM_CONFIG_ROOT": f"{CACHE}/config",
    "FLASHINFER_WORKSPACE_BASE": CACHE,
    "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/torchinductor",
    "TRITON_CACHE_DIR": f"{CACHE}/triton",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
"""What every engine's environment has; all paths are on writable volumes."""

TRUST: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
"""Variables by which OpenSSL and httpx, requests, curl and AWS's libraries find certificates."""

Object = dict[str, Any]


def arguments(endpoint: InferenceEndpoint, files: Files) -> list[str]:
    """Return the arguments of ``vllm serve``."""
    spec = endpoint.spec
    return [
        sources.model_argument(spec.model),
        "--config",
        CONFIG_PATH,
        "--host",
        "0.0.0.0",  # noqa: S104 - a pod's own address
        "--port",
        str(names.ENGINE_PORT),
        "--served-model-name",
        *engine_names(endpoint),
        *_adapters(spec),
        *_option("--revision", spec.model.revision),
        *_option("--chat-template", _chat_template(files)),
        *_option("--response-role", spec.engine.response_role),
        *_option("--load-format", _load_format(spec)),
        *_option("--tensor-parallel-size", _parallel(spec)),
        # last, since it takes one value and no more, whatever the user's arguments begin with
        "--shutdown-timeout",
        str(values.seconds(spec.engine.drain_timeout)),
        *spec.engine.args,
    ]


def engine_names(endpoint: InferenceEndpoint) -> tuple[str, ...]:
    """Return the names that vLLM serves: the user's, and the endpoint's own, which stays.

    By that name the gateway can call every engine of the endpoint, whatever its spec was.
    """
    given = endpoint.spec.model.names
    return given if endpoint.name in given else (*given, endpoint.name)


def _option(option: str, value: str | None) -> list[str]:
    return [option, value] if value else []


def _adapters(spec: InferenceEndpointSpec) -> list[str]:
    found = sources.adapter_arguments(spec.model)
    # as JSON, since a path may contain the = of the short form
    modules = [orjson.dumps({"name": name, "path": path}).decode() for name, path in found.items()]
    return ["--enable-lora", "--lora-modules", *modules] if modules else []


def _chat_template(files: Files) -> str | None:
    return CHAT_TEMPLATE_PATH if names.CHAT_TEMPLATE_FIELD in files else None


def _load_format(spec: InferenceEndpointSpec) -> str | None:
    chosen = "load-format" in map(options.dashed, spec.engine.config)
    return "runai_streamer" if spec.model.scheme in sources.STREAMED and not chosen else None


def _parallel(spec: InferenceEndpointSpec) -> str | None:
    return str(spec.gpu.count) if spec.gpu.count > 1 and not spec.engine.parallel_sizes else None


def environment(endpoint: InferenceEndpoint, files: Files, *, key_secret: str) -> list[Object]:
    """Return the environment as a container has it; what the user sets wins.

    The user's variables come last, in their order: they may refer to those before them.
    """
    given = endpoint.spec.engine.env
    theirs = {variable.name for variable in given}
    own = _own_variables(endpoint.spec, files, key_secret)
    ours = [variable for variable in own if variable["name"] not in theirs]
    return [*ours, *map(_dumped, given)]


def environment_sources(spec: InferenceEndpointSpec) -> list[Object]:
    """Return the user's ConfigMaps and Secrets of variables, over which every variable wins."""
    return [_dumped(source) for source in spec.engine.env_from]


def _own_variables(spec: InferenceEndpointSpec, files: Files, key_secret: str) -> list[Object]:
    plain = ENVIRONMENT | (dict.fromkeys(TRUST, CA_PATH) if names.CA_FIELD in files else {})
    secret = {"VLLM_API_KEY": {"name": key_secret, "key": names.ENGINE_KEY_FIELD}}
    if token := spec.model.token_secret_ref:
        secret["HF_TOKEN"] = {"name": token.name, "key": token.key}
    return [
        *({"name": name, "value": value} for name, value in plain.items()),
        *({"name": name, "valueFrom": {"secretKeyRef": ref}} for name, ref in secret.items()),
    ]


def _dumped(part: EnvVar | EnvFromSource) -> Object:
    stored: Object = canonical(part.model_dump(by_alias=True, exclude_none=True))
    return stored
