"""Which model an endpoint serves: where its weights are, its names, template, adapters and cache.

Part of ``v1alpha1``. ``desired`` and ``reconcile`` ask the properties here instead of taking
sources apart themselves.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from endpoint_operator.api import rules
from endpoint_operator.api.fields import (
    ConfigMapKeyRef,
    ObjectName,
    Quantity,
    SecretKeyRef,
    Strict,
)

LONGEST_SOURCE: Final = 512
MOST_ADAPTERS: Final = 32

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]
ServedName = Annotated[str, Field(max_length=rules.LONGEST_SERVED_NAME), rules.SERVED_NAME]


class Sourced(Strict):
    """Something that is loaded from a source, SCHEME://LOCATION."""

    source: str

    @property
    def scheme(self) -> str:
        """What kind of place the source is: hf, pvc, s3, gs, oci or file."""
        return self.source.partition("://")[0]

    @property
    def location(self) -> str:
        """What follows the scheme: ORG/NAME, CLAIM/PATH, BUCKET/PATH, IMAGE or /PATH."""
        return self.source.partition("://")[2]


class CacheSpec(Strict):
    """Where downloads are kept: a claim that the operator makes, or an existing one."""

    size: Quantity | None = Field(
        default=None, description="Makes a PersistentVolumeClaim of this size, such as 50Gi."
    )
    storage_class_name: ObjectName | None = Field(
        default=None, description="Storage class of the claim. Default: the cluster's."
    )
    access_mode: AccessMode = Field(
        default="ReadWriteOnce",
        description="Access mode of the claim; more than one replica needs ReadWriteMany.",
    )
    on_delete: Literal["Retain", "Delete"] = Field(
        default="Retain", description="What becomes of the claim when the endpoint is deleted."
    )
    claim_name: ObjectName | None = Field(
        default=None, description="Name of an existing claim, instead of size."
    )

    @property
    def is_exclusive(self) -> bool:
        """Whether one node, or one pod, at a time can mount the claim that we make."""
        return self.size is not None and self.access_mode != "ReadWriteMany"


class ChatTemplateSpec(Strict):
    """The Jinja template by which messages become a prompt."""

    inline: Annotated[str, Field(min_length=1, max_length=262144)] | None = Field(
        default=None, description="The template itself."
    )
    config_map_ref: ConfigMapKeyRef | None = Field(
        default=None, description="Where the template is; a change of it rolls the pods."
    )


class AdapterSpec(Sourced):
    """A LoRA adapter, served under a name of its own."""

    name: ServedName = Field(description="Name by which clients select the adapter.")
    source: Annotated[str, Field(max_length=LONGEST_SOURCE), rules.ADAPTER_SOURCE] = Field(
        description="Where the adapter is: hf://ORG/NAME, pvc://CLAIM/PATH or file:///PATH."
    )


class ModelSpec(Sourced):
    """Which model is served, and under which names."""

    source: Annotated[str, Field(max_length=LONGEST_SOURCE), rules.SOURCE] = Field(
        description="Where the weights are: hf://ORG/NAME (a Hugging Face repository),"
        " pvc://CLAIM/PATH (a folder of an existing claim), s3://BUCKET/PATH or gs://BUCKET/PATH"
        " (streamed by vLLM), oci://IMAGE (an image that holds the model, with a tag or digest) or"
        " file:///PATH (a folder inside the engine's image)."
    )
    revision: Annotated[str, Field(max_length=256), rules.REVISION] | None = Field(
        default=None,
        description="Branch, tag or commit of a Hugging Face repository. Default: its main branch.",
    )
    served_names: (
        Annotated[list[ServedName], Field(min_length=1, max_length=16), rules.UNIQUE] | None
    ) = Field(
        default=None,
        description="Names by which clients call the model; the first is the primary one. Default:"
        " the repository's id, or the last part of the path.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Token for gated and private Hugging Face repositories."
    )
    cache: CacheSpec | None = Field(
        default=None,
        description="Where downloads and compiled code are kept. Default: with the pod.",
    )
    chat_template: ChatTemplateSpec | None = Field(
        default=None, description="Chat template that replaces the model's own."
    )
    adapters: list[AdapterSpec] = Field(
        default=[],
        max_length=MOST_ADAPTERS,
        description="LoRA adapters that are served beside the model; a change rolls the pods.",
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The served names, of which there is at least one."""
        if self.served_names:
            return tuple(self.served_names)
        if self.scheme == "hf":
            return (self.location,)
        last = self.location.rstrip("/").rpartition("/")[2]
        return (last.partition("@")[0].partition(":")[0] if self.scheme == "oci" else last,)
