"""The images of the product and of the demo's engine, built from their Dockerfiles.

Without a container engine: ``python3 -m hack.images``. Standard library only, like the cluster.
"""
