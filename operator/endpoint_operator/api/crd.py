"""The CRDs, derived from the models: ``python -m endpoint_operator.api.crd DIRECTORY`` writes them.

``make manifests`` runs this; a contract test fails when crds/ is not what the models say. The
conversion knows only what our models use of JSON Schema and refuses the rest, so that nothing is
dropped unseen.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, TypeAdapter

from endpoint_operator import names
from endpoint_operator.api import rules, v1alpha1
from endpoint_operator.api.combinations import ADAPTERS_ARE_NOT_THE_ENDPOINT
from endpoint_operator.api.metadata import API_KEY_NAME_RULES, ENDPOINT_NAME_RULES

Schema = dict[str, Any]

_KEPT: Final = frozenset(
    {
        "type", "description", "enum", "format", "minimum", "maximum", "minLength", "maxLength",
        "minItems", "maxItems", "maxProperties", "required", "default",
        "x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
        "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
    }
)  # fmt: skip
_DROPPED: Final = frozenset({"title", "$defs"})
_CONVERTED: Final = frozenset({"properties", "items", "additionalProperties"})


@dataclass(frozen=True)
class Kind:
    """What a CRD has besides the schemas of its spec and status."""

    kind: str
    plural: str
    short: str
    description: str
    spec: TypeAdapter[Any]
    status: type[BaseModel]
    object_rules: tuple[rules.Rule, ...]
    columns: tuple[Mapping[str, Any], ...]
    scale: Mapping[str, str] | None = None


def column(name: str, path: str, kind: str = "string", *, wide: bool = False) -> dict[str, Any]:
    """Return a printer column; a wide one shows with ``-o wide`` only."""
    shown = {"name": name, "type": kind, "jsonPath": path}
    return shown | {"priority": 1} if wide else shown


def condition(kind: str, field: str) -> str:
    """Return the path of a condition's field."""
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_AGE: Final = column("AGE", ".metadata.creationTimestamp", "date")

KINDS: Final = (
    Kind(
        kind="InferenceEndpoint",
        plural="inferenceendpoints",
        short="iep",
        description="A model served by vLLM behind the gateway's OpenAI-compatible API.",
        spec=v1alpha1.ENDPOINT_SPEC,
        status=v1alpha1.InferenceEndpointStatus,
        object_rules=(*ENDPOINT_NAME_RULES, ADAPTERS_ARE_NOT_THE_ENDPOINT),
        columns=(
            column("MODEL", ".spec.model.source"),
            column("PHASE", ".status.phase"),
            column("READY", condition("Ready", "status")),
            column("GPU", ".spec.gpu.count", "integer"),
            column("URL", ".status.url"),
            _AGE,
            column("REASON", condition("Ready", "reason"), wide=True),
            column("IMAGE", ".status.image", wide=True),
        ),
        scale={
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
    Kind(
        kind="ApiKey",
        plural="apikeys",
        short="",
        description="A key for clients of the gateway; the operator makes the Secret that has it.",
        spec=v1alpha1.API_KEY_SPEC,
        status=v1alpha1.ApiKeyStatus,
        object_rules=API_KEY_NAME_RULES,
        columns=(
            column("ENDPOINTS", ".spec.endpoints"),
            column("READY", condition("Ready", "status")),
            _AGE,
            column("REASON", condition("Ready", "reason"), wide=True),
            column("EXPIRES", ".spec.expiresAt", wide=True),
        ),
    ),
)


def crd(kind: Kind) -> Schema:
    """Return the CustomResourceDefinition of a kind."""
    plural_names = {"kind": kind.kind, "plural": kind.plural, "singular": kind.kind.lower()}
    short = {"shortNames": [kind.short]} if kind.short else {}
    scale = {"scale": dict(kind.scale)} if kind.scale else {}
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root_schema(kind)},
        "subresources": {"status": {}, **scale},
        "additionalPrinterColumns": [dict(shown) for shown in kind.columns],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "names": {**plural_names, **short, "listKind": f"{kind.kind}List"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def root_schema(kind: Kind) -> Schema:
    """Return the schema of a whole object, with the rules on it as a whole."""
    return {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": structural(kind.spec.json_schema()),
            "status": structural(kind.status.model_json_schema()),
        },
        rules.CEL_KEY: rules.as_cel(kind.object_rules),
    }


def structural(schema: Schema, definitions: Mapping[str, Schema] | None = None) -> Schema:
    """Return pydantic's JSON schema as a structural schema of Kubernetes.

    References are inlined, titles dropped, and ``X | None`` becomes X: absence is how users say
    none.
    """
    definitions = definitions or schema.get("$defs", {})
    if "$ref" in schema:
        target = definitions[schema["$ref"].rpartition("/")[2]]
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return structural({**target, **own}, definitions)
    if "anyOf" in schema:
        return structural(_without_null(schema), definitions)
    converted = {key: value for key, value in schema.items() if key in _KEPT}
    if "properties" in schema:
        converted["properties"] = {
            name: structural(child, definitions) for name, child in schema["properties"].items()
        }
    if "items" in schema:
        converted["items"] = structural(schema["items"], definitions)
    converted |= _other_fields(schema, definitions)
    if "default" in converted:
        converted |= _default(converted.pop("default"), converted)
    unknown = schema.keys() - _KEPT - _DROPPED - _CONVERTED
    if unknown:
        raise ValueError(f"no conversion for {sorted(unknown)} of {schema}")
    return converted


def _other_fields(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Return which fields are kept that the schema doesn't name: all, those of a type, or none."""
    others = schema.get("additionalProperties", False)
    if others is False:
        return {}
    of_a_type = {} if others is True else structural(others, definitions)
    if not of_a_type:
        return {"x-kubernetes-preserve-unknown-fields": True}
    return {"additionalProperties": of_a_type}


def _default(value: Any, schema: Schema) -> Schema:
    """Return the ``default`` entry, if the API server has something to fill in.

    A nested object's is ``{}``, and only where one of its fields has a default itself; a default
    that means "nothing" is the field's absence.
    """
    if isinstance(value, dict):
        filled = any("default" in child for child in schema.get("properties", {}).values())
        return {"default": {}} if filled else {}
    return {} if value in (None, "", []) else {"default": value}


def _without_null(schema: Schema) -> Schema:
    others = [option for option in schema["anyOf"] if option.get("type") != "null"]
    if len(others) != 1:
        raise ValueError(f"no conversion for a choice of types: {schema}")
    return {**others[0], **{key: value for key, value in schema.items() if key != "anyOf"}}


class PlainDumper(yaml.SafeDumper):
    """Writes equal parts out instead of referring to the first of them."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        """Return that nothing is ever an alias."""
        return True


def main() -> None:
    """Write one file per kind into the directory given on the command line."""
    directory = Path(sys.argv[1])
    for kind in KINDS:
        path = directory / f"{names.GROUP}_{kind.plural}.yaml"
        path.write_text(yaml.dump(crd(kind), Dumper=PlainDumper, sort_keys=False, width=100))


if __name__ == "__main__":
    main()
