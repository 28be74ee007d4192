"""The demo's own steps bring a cluster up; the tests look closer at what stands there.

The first run compiles the cluster's programs and builds the images (see README), later ones take
about two minutes for it. Everything is removed at the end, also after a failure.

There is one cluster for all tests, and each start of vLLM takes half a minute of two cores: tests
share endpoints that serve (``served``) and leave them serving, in whatever order they run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from hack.cluster import proxies
from hack.demo import deploy, story
from hack.demo.runtimes import LocalRuntime
from hack.images.catalog import IMAGES
from helpers import machine, model_store, served_models
from helpers.demo_cluster import Demo
from helpers.served_models import Served

CLUSTER = "e2e"


@pytest.fixture(scope="session")
def demo(pytestconfig: pytest.Config) -> Iterator[Demo]:
    """The cluster with the chart, the example's endpoint and its key; progress is printed."""
    runtime = LocalRuntime(CLUSTER)
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    talking = capture.global_and_fixture_disabled if capture else contextlib.nullcontext
    with talking():
        print()
        runtime.prepare()
        runtime.remove()  # what a run that was killed left behind
    before = machine.snapshot(CLUSTER)
    try:
        with talking():
            runtime.build(IMAGES)
            session = runtime.start()
            runtime.load()
            url = story.deploy_everything(session)
        yield Demo(runtime, session, before, url, deploy.read_key(session, story.KEY_SECRET))
    finally:
        runtime.remove()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go to this machine: a proxy in the environment could not reach it."""
    for name in proxies.EXCEPTIONS:
        monkeypatch.setenv(name, "*")


@pytest.fixture(scope="session")
def hub(demo: Demo) -> Demo:
    """The cluster with a small model hub in it."""
    model_store.start_hub(demo)
    return demo


@pytest.fixture(scope="session")
def served(hub: Demo) -> Served:
    """Endpoints that serve, for the tests to ask, to change and to hurt."""
    return served_models.start(hub)
