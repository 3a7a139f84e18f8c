"""Rows of the gate about the images that are named by IMAGES."""

import subprocess

from deploy import options
from deploy.table import CheckFailed, CheckSkipped, Table

# A check installs nothing, so an engine has to be there.
SIZE = """
source scripts/lib/common.sh
source scripts/lib/images.sh
choose_engine || die "no docker or podman answers here, and there is no buildah for root"
image_megabytes "$1"
"""


def run(table: Table) -> None:
    limit = options.number("IMAGE_LIMIT_MB", 140, 1, 100000)
    images = options.words("IMAGES")
    if not images:
        table.check("image", "size", none_named)
    for image in images:
        table.check("image", f"size of {image}", lambda image=image: size(image, limit))


def none_named() -> str:
    raise CheckSkipped("needs IMAGES, the names of the built images")


def size(image: str, limit: float) -> str:
    """By the function that the build uses too."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SIZE, "size", image], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not done.stdout.strip().isdecimal():
        raise CheckFailed(f"its size is unknown: {done.stderr.strip() or 'no answer'}")
    megabytes = int(done.stdout)
    if megabytes > limit:
        raise CheckFailed(f"{megabytes} MB, the limit is IMAGE_LIMIT_MB={limit:g}")
    return f"{megabytes} MB"
