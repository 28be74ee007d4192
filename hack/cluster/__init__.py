"""A real Kubernetes on this machine, without a container engine: ``python3 -m hack.cluster``.

For the demo and for the tests. Every program is compiled from pinned Go modules, runs as an
ordinary process and leaves no trace after ``down``. Standard library only, since this runs
before there is a virtual environment. ``docs/adr/0005-local-cluster.md`` tells why.
"""
