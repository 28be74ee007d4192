"""``python3 -m hack.images [NAME...]``: build images and print the paths of their archives."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hack.cluster import prerequisites
from hack.cluster.processes import ClusterError
from hack.cluster.toolchain import default_root
from hack.images.builder import Builder
from hack.images.catalog import IMAGES


def main(argv: Sequence[str]) -> int:
    """Build the named images, or all; the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m hack.images", description=__doc__)
    names = [image.name for image in IMAGES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(names)}")
    wanted = parser.parse_args(argv).names or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no such image: {', '.join(sorted(unknown))}")
    try:
        prerequisites.provide_for_images()
        for archive in Builder(default_root()).build(i for i in IMAGES if i.name in wanted):
            print(archive)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


sys.exit(main(sys.argv[1:]))
