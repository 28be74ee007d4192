"""How vLLM is told what to serve: command line, configuration file, environment.

Names are those of vLLM 0.18 and newer. The command line has what the operator owns and wins over
the file, which has what the user sets (command line > file > default, in vLLM's own words).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import orjson
import yaml

from endpoint_operator import names
from endpoint_operator.api import options, values
from endpoint_operator.api.v1alpha1 import InferenceEndpointSpec
from endpoint_operator.desired.digests import canonical_json

# libyaml where PyYAML has it: four times faster than pure Python
_DUMPER: Final[type] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_KEPT_FILES: Final = 1024

CONFIG_DIRECTORY: Final = "/etc/vllm"
CONFIG_PATH: Final = f"{CONFIG_DIRECTORY}/{names.CONFIG_FIELD}"
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


def arguments(spec: InferenceEndpointSpec) -> list[str]:
    """Return the arguments of ``vllm serve``."""
    return [
        spec.model.location,
        "--config",
        CONFIG_PATH,
        "--host",
        "0.0.0.0",  # noqa: S104 - a pod's own address
        "--port",
        str(names.ENGINE_PORT),
        "--served-model-name",
        *spec.model.names,
        "--shutdown-timeout",
        str(values.seconds(spec.engine.drain_timeout)),
        *_parallel(spec),
    ]


def _parallel(spec: InferenceEndpointSpec) -> list[str]:
    chosen = {options.dashed(option) for option in spec.engine.config} & options.PARALLEL_SIZES
    if spec.gpu.count <= 1 or chosen:
        return []
    return ["--tensor-parallel-size", str(spec.gpu.count)]


def config_file(config: dict[str, Any]) -> str:
    """Return the text of vLLM's configuration file: sorted, so that order never rolls pods.

    In ASCII: PyYAML writes some line breaks of Unicode as they are and reads them as spaces.
    Raises RenderError where a value is no JSON.
    """
    return _config_file(canonical_json(config))


@lru_cache(_KEPT_FILES)
def _config_file(config: bytes) -> str:
    made: str = yaml.dump(orjson.loads(config), Dumper=_DUMPER, allow_unicode=False, width=1000)
    return made


def environment() -> list[dict[str, str]]:
    """Return the plain environment variables as a container has them."""
    return [{"name": name, "value": value} for name, value in ENVIRONMENT.items()]
