"""Lists and removes the images that were built for this home of proj."""

import os
import re
from collections.abc import Mapping

from runner.engine import find_engine
from runner.environments.cache.environments import CachedEnvironment
from runner.environments.cache.leases import exclusive_lease
from runner.errors import ExecutionError
from runner.settings import Home

MANAGER = "container"
TOP = "localhost/proj"
NAME = re.compile(r"[0-9a-f]{24}")
"""The tag of a built image: the first digits of the digest of its build inputs."""


def built_images(home: Home, environ: Mapping[str, str] = os.environ) -> tuple[CachedEnvironment, ...]:
    """Return the images that were built for this home and that the engine still has, the last used first."""
    folder = home.root / "images"
    used = {path.stem: path.stat().st_mtime for path in folder.glob("*.lock") if NAME.fullmatch(path.stem)}
    if not used:
        return ()
    try:
        engine = find_engine(environ)
    except ExecutionError:  # without an engine there are no images
        return ()
    found = []
    for name, moment in used.items():
        done = engine.run("image", "inspect", "--format", "{{.Id}} {{.Size}}", f"{TOP}:{name}")
        if done.exit_code == 0:
            identity, _, size = done.text.strip().partition(" ")
            found.append(
                CachedEnvironment(
                    name=name,
                    path=f"{TOP}:{name}",
                    manager=MANAGER,
                    digest=f"sha256:{identity.removeprefix('sha256:')}",
                    size=int(size),
                    own_size=int(size),
                    last_used=moment,
                    is_whole=True,
                )
            )
    return tuple(sorted(found, key=lambda image: -image.last_used))


def remove_image(home: Home, image: CachedEnvironment, environ: Mapping[str, str] = os.environ) -> int | None:
    """Remove an image and return the number of bytes freed; None if a run or a container uses it."""
    with exclusive_lease(home.environments, image.name) as is_alone:
        if not is_alone:
            return None
        done = find_engine(environ).run("image", "rm", image.path)
    return image.own_size if done.exit_code == 0 else None
