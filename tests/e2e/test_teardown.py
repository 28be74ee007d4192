"""What the cluster leaves behind on the machine: nothing. By its name the last to run."""

from __future__ import annotations

import pytest

from helpers import machine
from helpers.demo_cluster import Demo

pytestmark = pytest.mark.timeout(120, func_only=True)


def test_nothing_of_the_cluster_is_left(demo: Demo) -> None:
    state = demo.session.kubeconfig.parent
    assert machine.snapshot(state.name).left_since(demo.machine_before)["processes"]
    demo.runtime.remove()
    assert machine.snapshot(state.name).left_since(demo.machine_before) == {}
    assert not state.exists()
