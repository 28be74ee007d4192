"""Where models come from and are kept: claims, a gated repository of a hub, an image."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import archives
from hack.demo import calls
from helpers import model_store
from helpers.demo_cluster import Demo, eventually
from helpers.questions import SHORT, WORD
from helpers.served_models import NAMESPACE, STORED, Served
from helpers.small_endpoints import small_endpoint

pytestmark = pytest.mark.timeout(900, func_only=True)

GATED = "gated"
CLAIM = f"{GATED}-cache"
CACHE = {"size": "1Gi", "storageClassName": model_store.STORAGE_CLASS}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "hub-token", "namespace": NAMESPACE},
    "stringData": {"token": model_store.TOKEN},
}
MODEL_IMAGE = "localhost/models/tiny:v1"


def claims(demo: Demo) -> dict[str, str]:
    """The phase of each claim by its name."""
    found = demo.session.items("persistentvolumeclaims", namespace=NAMESPACE)
    return {claim["metadata"]["name"]: claim["status"]["phase"] for claim in found}


def delete(demo: Demo, name: str) -> None:
    demo.session.call_kubectl("delete", "iep", name, "-n", NAMESPACE)


def gated_model(**changes: Any) -> dict[str, Any]:
    return small_endpoint(
        GATED,
        NAMESPACE,
        model={
            "source": "hf://acme/gated",
            "revision": "main",
            "tokenSecretRef": {"name": "hub-token"},
            "adapters": [{"name": "from-hub", "source": "hf://acme/lora"}],
            "cache": CACHE,
        },
        engine={"env": model_store.ENVIRONMENT},
        **changes,
    )


def test_a_model_on_a_claim_is_served(served: Served) -> None:
    with served.client() as client:
        assert calls.completion(client, STORED) == WORD * SHORT


def test_a_gated_model_is_served_once_its_token_is_there(served: Served) -> None:
    kept = model_store.folder(served.demo, CLAIM)
    volume = model_store.volume(kept, claim=CLAIM, namespace=NAMESPACE)
    served.demo.apply_all([volume, gated_model()])
    served.wait_for(GATED, Ready="ConfigurationMissing")
    served.demo.apply_all([SECRET])
    served.wait_for(GATED, Ready="Serving")
    with served.client() as client:
        assert calls.completion(client, GATED) == WORD * SHORT
        assert calls.completion(client, "from-hub") != WORD * SHORT
    assert claims(served.demo)[CLAIM] == "Bound"
    assert list(kept.rglob("models--acme--gated")), "the claim holds no download"


def test_a_cache_outlives_its_endpoint_and_serves_the_next(served: Served) -> None:
    demo = served.demo
    delete(demo, GATED)
    eventually(lambda: not demo.pods(GATED, NAMESPACE), within_seconds=120, every_seconds=1)
    assert claims(demo)[CLAIM] == "Bound"
    demo.apply_all([gated_model(replicas=0)])
    assert demo.wait_for(GATED, NAMESPACE, Accepted="Valid")
    delete(demo, GATED)


def test_a_cache_goes_with_its_endpoint_where_that_is_wanted(served: Served) -> None:
    cache = CACHE | {"onDelete": "Delete"}
    served.demo.apply_all([small_endpoint("brief", NAMESPACE, model={"cache": cache}, replicas=0)])
    served.wait_for("brief", Ready="NoReplicas")
    assert "brief-cache" in claims(served.demo)
    delete(served.demo, "brief")
    eventually(lambda: "brief-cache" not in claims(served.demo), within_seconds=30, every_seconds=1)


def load_model_image(demo: Demo) -> None:
    """Bring an image to the node that holds the model and nothing else."""
    model = model_store.folder(demo, "repositories") / "acme/tiny"
    with tempfile.TemporaryDirectory() as scratch:
        layer = archives.tree_layer({"/": model}, Path(scratch))
        archive = Path(scratch, "model.tar")
        archives.write(archive, MODEL_IMAGE, layer, {})
        demo.runtime.load_archive(archive)


def test_a_model_in_an_image_is_served(served: Served) -> None:
    load_model_image(served.demo)
    source = {"source": f"oci://{MODEL_IMAGE}"}
    served.demo.apply_all([small_endpoint("packed", NAMESPACE, model=source)])
    served.wait_for("packed", Ready="Serving")
    with served.client() as client:
        assert calls.completion(client, "packed") == WORD * SHORT
    delete(served.demo, "packed")
