"""Where models and adapters come from: SCHEME://LOCATION. Part of ``v1alpha1``."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field

from endpoint_operator.api import rules
from endpoint_operator.api.fields import Strict

LONGEST_SOURCE: Final = 512

_PATH: Final = "[A-Za-z0-9._/+@=-]"
_REPOSITORY: Final = "hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
_CLAIM: Final = f"pvc://{rules.OBJECT_NAME_PATTERN}/{_PATH}*"
_BUCKET: Final = f"(s3|gs)://[a-z0-9][a-z0-9._-]{{1,61}}[a-z0-9]/{_PATH}+"
_FOLDER: Final = f"file:///{_PATH}+"
_TAG: Final = "(:[A-Za-z0-9_][A-Za-z0-9_.-]*)"
_IMAGE: Final = (
    f"[a-z0-9][A-Za-z0-9._/-]*(:[0-9]+/[A-Za-z0-9._/-]+)?({_TAG}|{_TAG}?@sha256:[a-f0-9]{{64}})"
)
_PARENT: Final = "/[.][.](/|$)"
_NO_PARENT: Final = rules.Rule(
    f"!self.matches('{_PARENT}')",
    lambda value: re.search(_PARENT, value) is None,
    "must not have .. in its path; write the path that is meant",
)
IMAGE: Final = rules.matches(
    f"^{_IMAGE}$", "write an image with a pinned tag or digest, such as vllm/vllm-openai:v0.33.0"
)
_MODEL_SOURCE: Final = rules.matches(
    f"^({_REPOSITORY}|{_CLAIM}|{_BUCKET}|oci://{_IMAGE}|{_FOLDER})$",
    "write hf://ORG/NAME, pvc://CLAIM/PATH, s3://BUCKET/PATH, gs://BUCKET/PATH, oci://IMAGE with a"
    " tag or digest, or file:///PATH for a folder of the engine's image",
)
_ADAPTER_SOURCE: Final = rules.matches(
    f"^({_REPOSITORY}|{_CLAIM}|{_FOLDER})$",
    "write hf://ORG/NAME, pvc://CLAIM/PATH, or file:///PATH for a folder of the engine's image:"
    " vLLM loads adapters from nowhere else",
)
ModelSource = Annotated[
    str, Field(max_length=LONGEST_SOURCE), rules.Together(_MODEL_SOURCE, _NO_PARENT)
]
AdapterSource = Annotated[
    str, Field(max_length=LONGEST_SOURCE), rules.Together(_ADAPTER_SOURCE, _NO_PARENT)
]


class Sourced(Strict):
    """Something that is loaded from a source."""

    source: str

    @property
    def scheme(self) -> str:
        """What kind of place the source is: hf, pvc, s3, gs, oci or file."""
        return self.source.partition("://")[0]

    @property
    def location(self) -> str:
        """What follows the scheme: ORG/NAME, CLAIM/PATH, BUCKET/PATH, IMAGE or /PATH.

        PATH of a claim may be empty; the slash is there.
        """
        return self.source.partition("://")[2]

    @property
    def default_name(self) -> str:
        """What a model from there is called: a repository's id, or the last part of the path."""
        if self.scheme == "hf":
            return self.location
        last = self.location.rstrip("/").rpartition("/")[2]
        return last.partition("@")[0].partition(":")[0] if self.scheme == "oci" else last
