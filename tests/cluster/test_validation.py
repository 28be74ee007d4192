"""Bad input, as a user meets it: kubectl names the field and says what to do."""

from __future__ import annotations

import re

import pytest
import yaml

from helpers import invalid
from helpers.live_cluster import ControlPlane


@pytest.mark.parametrize("case", invalid.cases("cluster"))
def test_kubectl_apply_refuses_it_and_names_field_and_remedy(
    plane: ControlPlane, case: invalid.Case
) -> None:
    arguments = ("apply", "--dry-run=server", "-f", "-")
    body = case.object | {"metadata": case.object["metadata"] | {"namespace": "default"}}
    refused = plane.kubectl(*arguments, stdin=yaml.safe_dump(body))
    assert refused.returncode != 0, refused.stdout
    lines = [line for line in refused.stderr.splitlines() if case.field in line]
    assert [line for line in lines if re.search(case.remedy, line)], refused.stderr


def test_kubectl_explains_the_fields(plane: ControlPlane) -> None:
    explained = plane.kubectl("explain", "inferenceendpoint.spec.engine.drainTimeout")
    assert "stopping pod" in explained.stdout
