"""The files of an engine, which one ConfigMap holds: options, chat template, certificates.

vLLM reads them from ``DIRECTORY``. Which of them exist depends on the endpoint; ``vllm`` points to
those that do. Every engine has ``inside/sitecustomize.py``, which Python runs: with it a pod's
status says why an engine can't start (ADR 0012).
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final

import orjson
import yaml

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import InferenceEndpointSpec
from endpoint_operator.desired.digests import canonical_json
from endpoint_operator.desired.inputs import Inputs

DIRECTORY: Final = "/etc/vllm"
CONFIG_PATH: Final = f"{DIRECTORY}/{names.CONFIG_FIELD}"
CHAT_TEMPLATE_PATH: Final = f"{DIRECTORY}/{names.CHAT_TEMPLATE_FIELD}"
CA_PATH: Final = f"{DIRECTORY}/{names.CA_FIELD}"

# libyaml where PyYAML has it: four times faster than pure Python
_DUMPER: Final[type] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_KEPT_CONFIGS: Final = 1024

Files = dict[str, str]


def files(spec: InferenceEndpointSpec, inputs: Inputs) -> Files:
    """Return the text of each file, by name. Raises RenderError where an option is no JSON."""
    template = spec.model.chat_template
    every = {
        names.CONFIG_FIELD: config_file(spec.engine.config),
        names.CHAT_TEMPLATE_FIELD: (template and template.inline) or inputs.chat_template,
        names.CA_FIELD: inputs.defaults.ca_bundle,
        names.START_FIELD: start_file(),
    }
    return {name: text for name, text in every.items() if text and not text.isspace()}


@cache
def start_file() -> str:
    """Return what each Python process of an engine runs first."""
    inside = resources.files("endpoint_operator.desired") / "inside" / names.START_FIELD
    return inside.read_text(encoding="utf-8")


def config_file(config: dict[str, Any]) -> str:
    """Return the text of vLLM's configuration file: sorted, so that order never rolls pods.

    In ASCII: PyYAML writes some line breaks of Unicode as they are and reads them as spaces.
    Raises RenderError where a value is no JSON.
    """
    return _config_file(canonical_json(config))


@lru_cache(_KEPT_CONFIGS)
def _config_file(config: bytes) -> str:
    made: str = yaml.dump(orjson.loads(config), Dumper=_DUMPER, allow_unicode=False, width=1000)
    return made
