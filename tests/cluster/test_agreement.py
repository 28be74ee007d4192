"""The API server and the model judge alike, whatever is combined; the model sees a bit more."""

from __future__ import annotations

import re
from typing import Any

from endpoint_operator.api.v1alpha1 import parse_endpoint
from endpoint_operator.errors import InvalidObjectError
from helpers import builders
from helpers.live_cluster import LiveCluster
from helpers.random_specs import Generator

Object = dict[str, Any]

SEEN_BY_THE_MODEL_ALONE = (
    "parallel sizes",  # in arguments
    "an adapter has the name of the model",  # of an image's name, or of a path with a slash behind
)


def refused_by_the_model(body: Object) -> str:
    try:
        parse_endpoint(body | {"metadata": body["metadata"] | {"uid": "u", "generation": 1}})
    except InvalidObjectError as error:
        return str(error)
    return ""


async def test_both_refuse_the_same_specs(cluster: LiveCluster) -> None:
    generator = Generator(seed=4)
    accepted = 0
    for _ in range(600):
        body = builders.endpoint() | {"spec": generator.spec()}
        body["metadata"] = {"name": "good", "namespace": "default"}
        by_model, by_server = refused_by_the_model(body), await cluster.refusal(body)
        if bool(by_model) != bool(by_server):
            assert not by_server, f"{by_server}\nbut the model accepts {body['spec']}"
            assert re.search("|".join(SEEN_BY_THE_MODEL_ALONE), by_model), (by_model, body["spec"])
        accepted += not by_model
    assert accepted > 100
