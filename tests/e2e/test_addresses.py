"""All four ways to name an endpoint, each with its rule for `model`, on real vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import openai
import pytest

from hack.demo import calls
from helpers.demo_cluster import eventually
from helpers.questions import PROMPT, SHORT, WORD
from helpers.served_models import ALIAS, EMBED, HOST, NAMESPACE, STORED, Served

pytestmark = pytest.mark.timeout(120, func_only=True)

INSIDE = f"{STORED}.{NAMESPACE}"  # the other way round than in a path
FULL = f"{NAMESPACE}.{STORED}"
NAMES = (STORED, ALIAS, f"{NAMESPACE}/{STORED}")
OR_NONE = (*NAMES, "")
ANY = (*OR_NONE, "whatever")
# a path, the host if it is not the gateway's own, and the models that lead to the endpoint
ADDRESSES = {
    "shared": ("/v1", "", NAMES),
    "by path": (f"/{STORED}/v1", "", ANY),
    "by path, without v1": (f"/{STORED}", "", ANY),
    "by path with namespace": (f"/{FULL}/v1", "", ANY),
    "by path with namespace, without v1": (f"/{FULL}", "", ANY),
    "by id": (f"/v2/{STORED}/openai/v1", "", OR_NONE),
    "by id with namespace": (f"/v2/{FULL}/openai/v1", "", OR_NONE),
    "by host": ("/v1", HOST, ANY),
    "by name inside": ("/v1", INSIDE, ANY),
    "by longer name inside": ("/v1", f"{INSIDE}.svc", ANY),
    "by whole name inside": ("/v1", f"{INSIDE}.svc.cluster.local", ANY),
}
STRICT = [name for name, (_, _, models) in ADDRESSES.items() if models is not ANY]


@contextmanager
def client_at(served: Served, address: str) -> Iterator[openai.OpenAI]:
    path, host, _ = ADDRESSES[address]
    headers = {"Host": host} if host else {}
    with served.client(path) as client:
        yield client.with_options(default_headers=headers)


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_address_leads_to_the_endpoint(served: Served, address: str) -> None:
    with client_at(served, address) as client:
        for model in ADDRESSES[address][2]:
            assert calls.completion(client, model) == WORD * SHORT
            assert calls.chat(client, model) == "".join(calls.streamed_chat(client, model))
            tokens = client.post("/tokenize", body={"model": model, "prompt": PROMPT}, cast_to=dict)
            assert tokens["count"] == len(tokens["tokens"])
        assert STORED in calls.model_names(client)


@pytest.mark.parametrize("address", STRICT)
def test_some_want_one_of_its_names(served: Served, address: str) -> None:
    with client_at(served, address) as client:
        for model in {"gpt-4", ""} - {*ADDRESSES[address][2]}:
            with pytest.raises(openai.NotFoundError, match=STORED) as caught:
                calls.chat(client, model)
            assert caught.value.code == "model_not_found"


def test_an_endpoint_can_want_that_at_every_address(served: Served) -> None:
    def is_refused(address: str) -> bool:
        with client_at(served, address) as client:
            try:
                calls.completion(client, "whatever")
            except openai.NotFoundError as error:
                return error.code == "model_not_found"
        return False

    # the ingress takes turns: four looks in a row reach both gateways
    looks = [address for address in ADDRESSES for _ in range(4)]
    lenient = [address for address in looks if address not in STRICT]
    served.change(STORED, access={"modelField": "Match"})
    try:
        eventually(lambda: all(is_refused(address) for address in looks), within_seconds=30)
    finally:
        served.change(STORED, access={"modelField": "Ignore"})
    eventually(lambda: not any(is_refused(address) for address in lenient), within_seconds=30)


def test_pooling_models_are_found_in_the_same_ways(served: Served) -> None:
    for path in ("/v1", f"/{EMBED}", f"/{NAMESPACE}.{EMBED}/v1", f"/v2/{EMBED}/openai/v1"):
        with served.client(path) as client:
            assert len(client.embeddings.create(model=EMBED, input="one").data[0].embedding) == 64


@pytest.mark.parametrize(("path", "host"), [("/v1", ""), (f"/{FULL}", ""), ("/v1", HOST)])
def test_another_namespaces_key_finds_nothing(served: Served, path: str, host: str) -> None:
    with served.demo.client(served.demo.session.url + path) as client:
        stranger = client.with_options(default_headers={"Host": host} if host else {})
        with pytest.raises(openai.NotFoundError):
            calls.chat(stranger, STORED)
