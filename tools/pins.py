"""Write constraints.txt: the exact versions, in this environment, of all that gemmad and its `dev` extra need.

With `--locks` write gemmad/engines/locks instead: of those versions the ones that an engine of each kind has. What
torch itself needs of CUDA is not among them: a build of torch names the exact version of each. `make pins` runs both.
"""

from __future__ import annotations

import sys
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
ROOT = Path(__file__).parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
LOCK_HEADER = """\
# What an engine of the kind `{kind}` has: exact versions of everything that gemmad needs, but for gemmad itself.
# Written by tools/pins.py from constraints.txt.
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


def locks(versions: dict[str, str]) -> dict[str, str]:
    """The lock files, by name. torch's own index has its builds without CUDA, and is asked for torch alone."""
    lines = {name: f"{name}=={version}\n" for name, version in sorted(versions.items())}
    cpu, cuda = LOCK_HEADER.format(kind="cpu"), LOCK_HEADER.format(kind="cuda")
    return {
        "cuda.txt": cuda + "".join(lines.values()),
        "cpu.txt": cpu + "".join(line for name, line in lines.items() if name != "torch"),
        "cpu-torch.txt": f"{cpu}--extra-index-url {CPU_INDEX}\ntorch=={versions['torch']}+cpu\n",
    }


def main() -> None:
    """Print the file, or write the locks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if sys.argv[1:] == ["--locks"]:
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        chosen = dict(line.split("==") for line in lines if not line.startswith("#"))
        versions = {name: chosen[name] for name in pins(map(Requirement, project["dependencies"]))}
        for name, text in locks(versions).items():
            (ROOT / "gemmad" / "engines" / "locks" / name).write_text(text)
        return
    needed = map(Requirement, (*project["dependencies"], *project["optional-dependencies"]["dev"]))
    print(HEADER + "\n".join(f"{name}=={version}" for name, version in sorted(pins(needed).items())))


if __name__ == "__main__":
    main()
