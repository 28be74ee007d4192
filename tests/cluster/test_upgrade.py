"""An upgrade of the release never has two operators at work."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from helpers.helm import container, flags, helm, pick, render
from helpers.live_cluster import ControlPlane
from helpers.operator_process import NAMESPACE
from helpers.tree import CHART

Object = dict[str, Any]

RELEASE = "before"
NAME = "before-vllm-endpoints-operator"


def installed_operator(*, knows_lease: bool) -> Object:
    """The operator's Deployment as a release has it; the first ones knew no Lease."""
    deployment = pick(render(release=RELEASE), "Deployment", NAME)
    owner = {"release-name": RELEASE, "release-namespace": NAMESPACE}
    deployment["metadata"]["annotations"] = {f"meta.helm.sh/{k}": v for k, v in owner.items()}
    if not knows_lease:
        variables = container(deployment)["env"]
        container(deployment)["env"] = [
            item for item in variables if item["name"] != "VLLM_ENDPOINTS_LEASE_NAME"
        ]
        deployment["spec"] |= {"replicas": 1, "strategy": {"type": "Recreate"}}
    return deployment


def upgraded_operator(plane: ControlPlane) -> Object:
    """The operator's Deployment as an upgrade would make it now, which asks the cluster."""
    values = flags({"crds.install": False})
    asking = ("--dry-run=server", "--kubeconfig", plane.kubeconfig)
    text = helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *values, *asking)
    return pick([item for item in yaml.safe_load_all(text) if item], "Deployment", NAME)


@pytest.mark.parametrize(
    ("knows_lease", "strategy"), [(False, "Recreate"), (True, "RollingUpdate")], ids=["old", "new"]
)
def test_an_operator_that_knows_no_lease_ends_before_the_next_one_begins(
    plane: ControlPlane, knows_lease: bool, strategy: str
) -> None:
    text = json.dumps(installed_operator(knows_lease=knows_lease))
    created = plane.kubectl("create", "-f", "-", stdin=text)
    assert created.returncode == 0, created.stderr
    try:
        upgraded = upgraded_operator(plane)
        assert upgraded["spec"]["strategy"]["type"] == strategy
        assert upgraded["spec"]["replicas"] == 2
        applied = plane.kubectl(
            "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(upgraded)
        )
        assert applied.returncode == 0, applied.stderr
        # the one after that has nothing to wait for
        assert upgraded_operator(plane)["spec"]["strategy"]["type"] == "RollingUpdate"
    finally:
        plane.kubectl("delete", "deployment", NAME, "-n", NAMESPACE)


def test_a_first_installation_has_nothing_to_wait_for(plane: ControlPlane) -> None:
    assert upgraded_operator(plane)["spec"]["strategy"]["type"] == "RollingUpdate"
