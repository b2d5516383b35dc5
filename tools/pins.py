"""Write constraints.txt: the exact versions, in this environment, of all that gemmad and its `dev` extra need.

`make pins` runs it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

HEADER = """\
# What `make setup` and CI install: exact versions of everything gemmad and its `dev` extra need.
# Written by tools/pins.py from an environment whose tests pass. pyproject.toml has the ranges that are supported.
"""


def pins(needed: Iterable[Requirement]) -> dict[str, str]:
    """Name → version of `needed` and of all that they need, as installed here."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(needed)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found[name] = Version(metadata.version(name)).public  # 2.13.0+cpu is 2.13.0 wherever it is built
        waiting.extend(_needs(name, requirement.extras))
    return found


def _needs(name: str, extras: Iterable[str]) -> list[Requirement]:
    requirements = map(Requirement, metadata.requires(name) or ())
    return [needed for needed in requirements if _applies(needed, extras)]


def _applies(needed: Requirement, extras: Iterable[str]) -> bool:
    return needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def main() -> None:
    """Print the file."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    needed = map(Requirement, (*project["dependencies"], *project["optional-dependencies"]["dev"]))
    print(HEADER + "\n".join(f"{name}=={version}" for name, version in sorted(pins(needed).items())))


if __name__ == "__main__":
    main()
