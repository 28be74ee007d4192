"""Which model an endpoint serves: its source, names, chat template, adapters and cache.

Part of ``v1alpha1``.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from endpoint_operator.api import rules, values
from endpoint_operator.api.fields import (
    LONGEST_SERVED_NAME,
    SERVED_NAME,
    ConfigMapKeyRef,
    DataKey,
    ObjectName,
    Quantity,
    ServedName,
    Strict,
)
from endpoint_operator.api.source import AdapterSource, ModelSource, Sourced

MOST_ADAPTERS: Final = 32

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]


class TokenSecretRef(Strict):
    """A token in a Secret of the endpoint's namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: DataKey = Field(default="token", description="Key of the token in it.")


_NOT_NOTHING: Final = rules.Rule(
    "",
    lambda size: values.amount(size) >= 1,
    "must be at least one byte; write a quantity such as 50Gi",
)


class CacheSpec(Strict):
    """Where downloads are kept: a claim that the operator makes, or an existing one."""

    size: Annotated[Quantity, _NOT_NOTHING] | None = Field(
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
        """Whether one node, or one pod, at a time can mount the claim that the operator makes."""
        return self.size is not None and self.access_mode != "ReadWriteMany"

    @property
    def is_shared(self) -> bool:
        """Whether many nodes can surely mount it; of an existing claim it is not known."""
        return self.size is not None and self.access_mode == "ReadWriteMany"


_ANOTHER_CLAIM: Final = (
    "a claim keeps what it was made with; leave it, or make a claim of your own and set claimName"
)
_BOTH_MADE: Final = "!has(self.size) || !has(oldSelf.size) || "
_CACHE_RULES: Final = rules.Together(
    rules.one_of(size="size", claim_name="claimName"),
    rules.Rule(
        "!has(self.claimName) || (!has(self.storageClassName)"
        " && self.accessMode == 'ReadWriteOnce' && self.onDelete == 'Retain')",
        lambda cache: (
            cache.claim_name is None
            or (cache.storage_class_name, cache.access_mode, cache.on_delete)
            == (None, "ReadWriteOnce", "Retain")
        ),
        "storageClassName, accessMode and onDelete are for a claim that the operator makes; remove"
        " them beside claimName",
    ),
    rules.transition(
        f"{_BOTH_MADE}(has(self.storageClassName) == has(oldSelf.storageClassName)"
        " && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName))",
        f"storageClassName can't change: {_ANOTHER_CLAIM}",
    ),
    rules.transition(
        f"{_BOTH_MADE}self.accessMode == oldSelf.accessMode",
        f"accessMode can't change: {_ANOTHER_CLAIM}",
        "accessMode",
    ),
)


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
    source: AdapterSource = Field(
        description="Where the adapter is: hf://ORG/NAME, pvc://CLAIM/PATH or file:///PATH."
    )


class ModelSpec(Sourced):
    """Which model is served, and under which names."""

    source: ModelSource = Field(
        description="Where the weights are: hf://ORG/NAME (a Hugging Face repository),"
        " pvc://CLAIM/PATH (a folder of an existing claim), s3://BUCKET/PATH or gs://BUCKET/PATH"
        " (streamed by vLLM), oci://IMAGE (an image that holds the model, with a tag or digest) or"
        " file:///PATH (a folder inside the engine's image)."
    )
    revision: (
        Annotated[
            str,
            Field(max_length=256),
            rules.matches(
                "^[A-Za-z0-9][A-Za-z0-9._/-]*$",
                "write a branch, a tag or a commit of the repository",
            ),
        ]
        | None
    ) = Field(
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
    token_secret_ref: TokenSecretRef | None = Field(
        default=None, description="Token for gated and private Hugging Face repositories."
    )
    cache: Annotated[CacheSpec, _CACHE_RULES] | None = Field(
        default=None,
        description="Where downloads and compiled code are kept. Default: with the pod.",
    )
    chat_template: (
        Annotated[ChatTemplateSpec, rules.one_of(inline="inline", config_map_ref="configMapRef")]
        | None
    ) = Field(default=None, description="Chat template that replaces the model's own.")
    adapters: Annotated[list[AdapterSpec], Field(max_length=MOST_ADAPTERS), rules.UNIQUE_NAMES] = (
        Field(
            default=[],
            description="LoRA adapters that are served beside the model; a change rolls the pods.",
        )
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The served names, of which there is at least one."""
        return tuple(self.served_names) if self.served_names else (self.default_name,)


def _is_hub(source: str) -> bool:
    return source.startswith("hf://")


_NAMED: Final = rules.Rule(
    "has(self.servedNames) || !self.source.matches('^(hf|pvc|s3|gs|file)://')"
    f" || self.source.matches('^(hf://.{{1,{LONGEST_SERVED_NAME}}}"
    f"|(pvc|s3|gs|file)://(.*/)?[A-Za-z0-9][A-Za-z0-9._@+-]{{0,{LONGEST_SERVED_NAME - 1}}}/*)$')",
    lambda model: all(
        SERVED_NAME.holds(name) and len(name) <= LONGEST_SERVED_NAME for name in model.names
    ),
    f"source gives no usable name (at most {LONGEST_SERVED_NAME} letters, digits and . _ @ + -,"
    " beginning with a letter or digit); set servedNames",
)
MODEL_RULES: Final = rules.Together(
    _NAMED,
    rules.Rule(
        "!has(self.revision) || self.source.startsWith('hf://')",
        lambda model: model.revision is None or _is_hub(model.source),
        "is for sources of hf:// only; remove it",
        "revision",
    ),
    rules.Rule(
        "!has(self.tokenSecretRef) || self.source.startsWith('hf://')"
        " || has(self.adapters) && self.adapters.exists(a, a.source.startsWith('hf://'))",
        lambda model: (
            model.token_secret_ref is None
            or any(_is_hub(sourced.source) for sourced in (model, *model.adapters))
        ),
        "is for sources of hf:// only; remove it, and give other credentials by spec.engine.env or"
        " spec.podTemplate",
        "tokenSecretRef",
    ),
    rules.Rule(
        "!has(self.adapters) || self.adapters.all(a, has(self.servedNames)"
        " ? !(a.name in self.servedNames) : self.source.startsWith('hf://')"
        " ? self.source != 'hf://' + a.name : !self.source.endsWith('/' + a.name))",
        lambda model: not {adapter.name for adapter in model.adapters} & set(model.names),
        "an adapter has the name of the model; give it another name, or set servedNames",
        "adapters",
    ),
)
"""Rules on the fields of a model together."""
