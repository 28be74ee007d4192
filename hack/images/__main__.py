"""``python3 -m hack.images [NAME...]``: build images and print the paths of their archives."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hack.cluster import prerequisites
from hack.cluster.shell import exit_status
from hack.cluster.toolchain import default_root
from hack.images.builder import Builder
from hack.images.catalog import IMAGES, Image


def main(argv: Sequence[str]) -> int:
    """Build the named images, or all; the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m hack.images", description=__doc__)
    names = [image.name for image in IMAGES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(names)}")
    wanted = parser.parse_args(argv).names or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no such image: {', '.join(sorted(unknown))}")
    return exit_status(
        lambda: _build([i for i in IMAGES if i.name in wanted]),
        interrupted="the same command begins anew with the image that was not complete",
    )


def _build(images: list[Image]) -> None:
    prerequisites.provide_for_images()
    for archive in Builder(default_root()).build(images):
        print(archive)


sys.exit(main(sys.argv[1:]))
