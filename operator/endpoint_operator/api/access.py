"""How clients reach an endpoint through the gateway, and how much they may ask of it.

Part of ``v1alpha1``. What of it is accepted travels to the gateway by the endpoint's status.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from endpoint_operator.api import rules
from endpoint_operator.api.fields import Duration, ServedName, Strict

MOST_ADDRESSES: Final = 16
MOST_LIMIT: Final = 1_000_000_000
LONGEST_HOST: Final = 253

ModelField = Literal["Ignore", "Match"]
Balancing = Literal["LeastInFlight", "PrefixHash"]
Route = Literal[
    "chat.completions",
    "completions",
    "embeddings",
    "responses",
    "messages",
    "audio.transcriptions",
    "audio.translations",
    "tokenize",
    "detokenize",
    "pooling",
    "classify",
    "score",
    "rerank",
]
MOST_ROUTES: Final = 13

_LABEL: Final = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
HOST: Final = rules.matches(
    f"^{_LABEL}([.]{_LABEL})+$",
    "write a DNS name with a dot, in lower-case letters, without scheme, port or wildcard, such as"
    " qwen.example.com",
)
Host = Annotated[str, Field(max_length=LONGEST_HOST), HOST]
Limit = Annotated[int, Field(ge=1, le=MOST_LIMIT)]
Timeout = Annotated[Duration, rules.between("1s", "24h")]


class TimeoutsSpec(Strict):
    """How long the gateway waits for an engine; each counts from when the request is sent there."""

    connect: Timeout | None = Field(
        default=None, description="Until a replica has accepted the connection."
    )
    first_byte: Timeout | None = Field(
        default=None,
        description="Until the first byte of a stream: the time that a long prompt may take.",
    )
    idle: Timeout | None = Field(default=None, description="Between two pieces of a stream.")
    total: Timeout | None = Field(default=None, description="For the whole request.")


class LimitsSpec(Strict):
    """How much may be asked for; what is not set is not limited."""

    requests_per_minute: Limit | None = Field(
        default=None, description="Requests that are admitted per minute."
    )
    tokens_per_minute: Limit | None = Field(
        default=None, description="Tokens per minute, of prompts and answers together."
    )
    max_in_flight: Limit | None = Field(
        default=None, description="Requests that are answered at the same time."
    )


class LoadBalancingSpec(Strict):
    """To which replica a request goes."""

    strategy: Balancing = Field(
        default="LeastInFlight",
        description="LeastInFlight takes the replica with the fewest requests; PrefixHash sends"
        " prompts that begin alike to the same one, whose cache then has the beginning.",
    )


class AccessSpec(Strict):
    """An endpoint's policy at the gateway; a change of it rolls nothing."""

    aliases: Annotated[list[ServedName], Field(max_length=MOST_ADDRESSES), rules.UNIQUE] = Field(
        default=[],
        description="Further names by which clients call the model. The engines don't know them.",
    )
    hosts: Annotated[list[Host], Field(max_length=MOST_ADDRESSES), rules.UNIQUE] = Field(
        default=[],
        description="Host names that lead to this endpoint, in the domains that the administrator"
        " allows its namespace.",
    )
    model_field: ModelField = Field(
        default="Ignore",
        description="What the field model of a request is to a host or path that names the"
        " endpoint: Ignore takes any, Match wants one of its names.",
    )
    routes: Annotated[list[Route], Field(max_length=MOST_ROUTES), rules.UNIQUE] = Field(
        default=[],
        description="Routes that clients may use; models is always among them. Default: all.",
    )
    timeouts: TimeoutsSpec = Field(
        default=TimeoutsSpec(),
        description="How long the gateway waits for an engine. Default: the chart's.",
    )
    limits: LimitsSpec = Field(
        default=LimitsSpec(),
        description="How much all clients together may ask of the endpoint. Default: no limit.",
    )
    load_balancing: LoadBalancingSpec = Field(
        default=LoadBalancingSpec(), description="How requests are spread over the replicas."
    )
