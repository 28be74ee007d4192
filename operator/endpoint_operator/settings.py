"""The operator's settings: one frozen value, read once from ``VLLM_ENDPOINTS_*`` variables.

``__main__`` builds it; everything else gets it handed. The chart sets every variable, and a
contract test keeps chart and model together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from endpoint_operator.errors import SettingsError

PREFIX: Final = "VLLM_ENDPOINTS_"

_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class Settings(BaseModel):
    """What an administrator decides, one field per variable (upper case, with the prefix)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    release_namespace: str = Field(
        pattern=_NAME, description="namespace of the operator, the gateway and their Secrets"
    )
    keyring_secret: str = Field(
        pattern=_NAME, description="name of the Secret that tells the gateway which keys it accepts"
    )
    root_key_secret: str = Field(
        pattern=_NAME, description="name of the Secret from whose key the engines' keys derive"
    )
    gateway_service: str = Field(
        pattern=_NAME, description="name of the gateway's Service in the release namespace"
    )
    cluster_domain: str = Field(
        default="cluster.local", pattern=_NAME, description="DNS domain of the cluster"
    )
    external_url: str = Field(
        default="",
        pattern=r"^(https?://[^\s/]+(/\S*)?)?$",
        description="address of the gateway from outside, such as https://llm.example.com; may be"
        " empty",
    )
    default_engine_image: str = Field(
        default="vllm/vllm-openai:v0.33.0",
        pattern=r"^\S+$",
        description="image of endpoints that name none; endpoints keep the one they started with",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe log line that is written"
    )
    liveness_port: int = Field(
        default=8081, ge=1, le=65535, description="port of GET /healthz, for the liveness probe"
    )

    @property
    def gateway_host(self) -> str:
        """The gateway's DNS name inside the cluster."""
        return f"{self.gateway_service}.{self.release_namespace}.svc.{self.cluster_domain}"


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings. Raises SettingsError naming every wrong variable and its remedy."""
    known = {name: environ.get(PREFIX + name.upper()) for name in Settings.model_fields}
    given = {name: value for name, value in known.items() if value is not None}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        lines = [_explain(str(fault["loc"][0]), fault["msg"]) for fault in error.errors()]
        raise SettingsError("\n".join(lines)) from error


def _explain(name: str, problem: str) -> str:
    meaning = Settings.model_fields[name].description
    return f"{PREFIX}{name.upper()}: {problem}; set it to the {meaning}"
