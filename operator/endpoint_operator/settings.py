"""The operator's settings: one frozen value, read once from ``VLLM_ENDPOINTS_*`` variables.

``__main__`` builds it; everything else gets it handed. The chart sets every variable, and a
contract test keeps chart and model together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from endpoint_operator.errors import SettingsError

PREFIX: Final = "VLLM_ENDPOINTS_"
LONGEST_CA_BUNDLE: Final = 100_000
"""Characters: Linux takes no variable of 128 KiB."""

_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


def _parse(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


class HostDomain(BaseModel):
    """A domain in which endpoints may have hosts, of these namespaces; of none named: of all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str = Field(pattern=_NAME)
    namespaces: tuple[str, ...] = ()


Name = Annotated[str, Field(pattern=_NAME)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_split)]
Strings = Annotated[dict[str, str], BeforeValidator(_parse)]
Objects = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_parse)]
HostDomains = Annotated[tuple[HostDomain, ...], BeforeValidator(_parse)]


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
    gateway_labels: Strings = Field(
        default={
            "app.kubernetes.io/name": "vllm-endpoints",
            "app.kubernetes.io/instance": "vllm-endpoints",
            "app.kubernetes.io/component": "gateway",
        },
        min_length=1,
        description="labels of the gateway's pods in the release namespace, as a JSON object",
    )
    watch_namespaces: Names = Field(
        default=(),
        description="namespaces whose objects are served, separated by commas; empty: all",
    )
    lease_name: str = Field(
        default="vllm-endpoints-operator",
        pattern=_NAME,
        description="name of the Lease in the release namespace that the leading operator holds",
    )
    identity: str = Field(
        default="",
        description="name that no other operator has, such as the pod's; empty: a random one",
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
    host_domains: HostDomains = Field(
        default=(),
        description="domains in which endpoints may have hosts, as a JSON list of objects with"
        " domain and, unless for all, namespaces",
    )
    gateway_hosts: Names = Field(
        default=(),
        description="hosts of the gateway itself, which no endpoint can have, separated by commas",
    )
    default_engine_image: str = Field(
        default="vllm/vllm-openai:v0.33.0",
        pattern=r"^\S+$",
        description="image of endpoints that name none; endpoints keep the one they started with",
    )
    engine_pull_secrets: Names = Field(
        default=(),
        description="names of Secrets in an endpoint's namespace that can pull its engine's image,"
        " separated by commas",
    )
    engine_node_selector: Strings = Field(
        default={}, description="labels of the nodes that engines may run on, as a JSON object"
    )
    engine_ca_bundle: str = Field(
        default="",
        pattern=r"^(\s*|[\s\S]*-----BEGIN CERTIFICATE-----[\s\S]*)$",
        max_length=LONGEST_CA_BUNDLE,
        description="certificates (PEM) of private authorities that engines trust",
    )
    network_policy: bool = Field(
        default=True, description="word true, unless engines shall have no NetworkPolicy (false)"
    )
    metrics_scrapers: Objects = Field(
        default=(),
        description="NetworkPolicy peers that may read the engines' metrics, as a JSON list",
    )
    upgrade_max_concurrent: int = Field(
        default=1,
        ge=1,
        description="number of endpoints that an upgrade of the operator may roll at a time",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe log line that is written"
    )
    liveness_port: int = Field(
        default=8081, ge=1, le=65535, description="port of GET /healthz, for the liveness probe"
    )

    @field_validator("host_domains")
    @classmethod
    def _leave_the_cluster_alone(
        cls, domains: tuple[HostDomain, ...], info: ValidationInfo
    ) -> tuple[HostDomain, ...]:
        """Refuse domains by which an endpoint could take names of Services, our own among them."""
        service = f"{info.data.get('gateway_service')}.{info.data.get('release_namespace')}"
        for each in domains:
            if _is_inside(each.domain, info.data.get("cluster_domain", "")) or (
                each.domain == service
            ):
                raise ValueError(
                    f"{each.domain} has names of the cluster, of machines or of all the world in "
                    "it; take it out of gateway.hostDomains, or name one below it"
                )
        return domains

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces to watch, the release's among them; none means all."""
        if not self.watch_namespaces:
            return ()
        return tuple(sorted({self.release_namespace, *self.watch_namespaces}))

    @property
    def gateway_host(self) -> str:
        """The gateway's DNS name inside the cluster."""
        return f"{self.gateway_service}.{self.release_namespace}.svc.{self.cluster_domain}"


def _is_inside(domain: str, cluster_domain: str) -> bool:
    """Say whether a domain has hosts in it that mean something inside a cluster.

    Any single label may be a namespace, whose Services are NAME.NAMESPACE.
    """
    *others, last = domain.split(".")
    one, other = f".{domain}", f".{cluster_domain}"
    return (
        not others
        or last in ("svc", "localhost")
        or last.isdigit()
        or one.endswith(other)
        or other.endswith(one)
    )


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
    problem = problem.removeprefix("Value error, ")
    return f"{PREFIX}{name.upper()}: {problem}; set it to the {meaning}"
