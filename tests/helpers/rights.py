"""What the chart grants, and what was asked of the API server, in the same terms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from helpers.chaos_proxy import Sent

PATH: Final = re.compile(
    r"^/(?:api|apis/(?P<group>[^/]+))/v[^/]+"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/.))?"
    r"/(?P<resource>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<subresource>[^/]+))?$"
)
BY_NAME: Final = re.compile(r"^metadata\.name=(?P<name>[^,]+)$")
VERBS: Final = {"PATCH": "patch", "POST": "create", "PUT": "update", "DELETE": "delete"}


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource, everywhere or (``name``) on one object of it."""

    group: str
    resource: str
    verb: str
    name: str = ""

    def __str__(self) -> str:
        named = f" {self.name}" if self.name else ""
        return f"{self.verb} {self.resource}.{self.group or 'core'}{named}"


def granted(rules: Iterable[dict[str, Any]]) -> Iterator[Right]:
    """Yield each right that these rules grant."""
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield Right(group, resource, verb, name)


def used(sent: Iterable[Sent]) -> Iterator[tuple[Right, str]]:
    """Yield each right that requests needed, with the namespace; discovery needs none."""
    for request in sent:
        found = PATH.match(request.path)
        if not found:
            continue
        subresource = found["subresource"]
        resource = f"{found['resource']}/{subresource}" if subresource else found["resource"]
        by_name = BY_NAME.match(request.query.get("fieldSelector", ""))
        name = found["name"] or (by_name["name"] if by_name else "")
        for verb in _verbs(request, is_collection=not found["name"]):
            # no name in a rule can allow the creation of an object
            right = Right(found["group"] or "", resource, verb, "" if verb == "create" else name)
            yield right, found["namespace"] or ""


def _verbs(request: Sent, *, is_collection: bool) -> Iterator[str]:
    if request.method != "GET":
        yield VERBS[request.method]
        if request.method == "PATCH" and request.status == 201:
            yield "create"  # which the API server asks for as well
    elif is_collection:
        yield "watch" if request.query.get("watch") == "true" else "list"
    else:
        yield "get"
