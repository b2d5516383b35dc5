"""Build the .deb: gemmad's control plane in a folder of its own, for the Python that Debian has on this machine.

    python packaging/deb/build.py [--output DIR] [--version VERSION] [--compression xz]

It takes the packages out of the environment that it runs in, so their versions are those that were tested; where Debian
has another Python than that environment, pip fetches the same versions for it. torch is not among them: see
`gemmad engine`. Only dpkg-deb is needed.

    /usr/bin/gemmad                    a launcher
    /usr/lib/gemmad                    a virtual environment of /usr/bin/python3, with bytecode
    /usr/lib/systemd, sysusers.d, tmpfiles.d, /usr/share/man, completions
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = Path(__file__).parent
sys.path.insert(0, str(ROOT / "tools"))

from packaging.requirements import Requirement  # noqa: E402
from pins import pins  # noqa: E402 - tools/pins.py

ENGINES_OWN = frozenset({"torch", "transformers", "accelerate", "safetensors"})
"""Of what pyproject.toml names: what only workers need."""
PYTHON = "/usr/bin/python3"
HOME = "usr/lib/gemmad"
MAINTAINER = f"{os.environ.get('DEBFULLNAME', 'gemmad developers')} <{os.environ.get('DEBEMAIL', 'gemmad@localhost')}>"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
LEFT_OUT = re.compile(r"(^|/)(__pycache__|tests?|testing/_private)/|\.(pyi|pyx|pxd|a|h)$|^\.\./|^bin/")
UNITS = {
    "gemmad.service": "usr/lib/systemd/system/gemmad.service",
    "gemmad.socket": "usr/lib/systemd/system/gemmad.socket",
    "gemmad-devices.service": "usr/lib/systemd/system/gemmad-devices.service",
    "gemmad.sysusers": "usr/lib/sysusers.d/gemmad.conf",
    "gemmad.tmpfiles": "usr/lib/tmpfiles.d/gemmad.conf",
}
COMPLETIONS = {
    "gemmad": "usr/share/bash-completion/completions/gemmad",
    "_gemmad": "usr/share/zsh/vendor-completions/_gemmad",
    "gemmad.fish": "usr/share/fish/vendor_completions.d/gemmad.fish",
}


def main() -> None:
    """Build it, and print where it is."""
    parser = argparse.ArgumentParser(description="Build gemmad's .deb.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--version", default=_version(), help="of the package")
    parser.add_argument("--compression", default="xz", help="of dpkg-deb: xz, gzip, none")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    architecture = ARCHITECTURES[platform.machine()]
    with tempfile.TemporaryDirectory(prefix="gemmad-deb-") as folder:
        stage = Path(folder, "stage")
        stage.mkdir(mode=0o755)
        python = _debians_python()
        _place_packages(stage, python)
        _place_files(stage, arguments.version)
        _place_control(stage, arguments.version, python=python, architecture=architecture)
        _settle_modes(stage)
        target = arguments.output / f"gemmad_{arguments.version}_{architecture}.deb"
        _run("dpkg-deb", "--root-owner-group", f"-Z{arguments.compression}", "--build", str(stage), str(target))
    print(target)  # noqa: T201 - what a build says


# --- what goes in -----------------------------------------------------------------------------------------------------


def _place_packages(stage: Path, python: str) -> None:
    """gemmad and what its control plane needs, as a virtual environment that lies where it will be."""
    home = stage / HOME
    site = home / "lib" / f"python{python}" / "site-packages"
    site.mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin" / "python3").symlink_to(f"/usr/bin/python{python}")
    (home / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n")
    versions = _needed()
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        for name in versions:
            _copy_package(name, site)
    else:
        _fetch_packages(versions, site, python)
    shutil.copytree(ROOT / "gemmad", site / "gemmad", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "systemd", site / "gemmad" / "systemd")
    # Unchecked: dpkg alone writes here, and the same files give the same package.
    compile_all = ("-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash")
    _run(f"/usr/bin/python{python}", *compile_all, "-s", str(stage), "-p", "/", str(home / "lib"))


def _needed() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(line) for line in project["dependencies"]]
    return pins(requirement for requirement in wanted if requirement.name not in ENGINES_OWN)


def _copy_package(name: str, site: Path) -> None:
    for file in metadata.distribution(name).files or ():
        if LEFT_OUT.search(str(file)) is None and file.locate().is_file():
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), target)


def _fetch_packages(versions: dict[str, str], site: Path, python: str) -> None:
    platforms = [f"manylinux_2_{minor}_{platform.machine()}" for minor in (28, 27, 24, 17)]
    for_debian = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    for_debian += [
        word for name in (*platforms, f"manylinux2014_{platform.machine()}") for word in ("--platform", name)
    ]
    wanted = [f"{name}=={version}" for name, version in versions.items()]
    _run(
        sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--target", str(site), *for_debian, *wanted
    )
    shutil.rmtree(site / "bin", ignore_errors=True)
    for path in [path for path in site.rglob("*") if path.is_file()]:
        if LEFT_OUT.search(str(path.relative_to(site))) is not None:
            path.unlink()


def _place_files(stage: Path, version: str) -> None:
    _put(stage / "usr/bin/gemmad", (PARTS / "gemmad").read_text(), mode=0o755)
    for name, target in UNITS.items():
        _put(stage / target, (ROOT / "systemd" / name).read_text())
    user = (ROOT / "systemd" / "gemmad-user.service").read_text().replace("%h/.local/bin/gemmad", "/usr/bin/gemmad")
    _put(stage / "usr/lib/systemd/user/gemmad.service", user.partition("\n")[2])
    for page in sorted((ROOT / "packaging" / "man").glob("*.[158]")):
        _put_gzipped(stage / "usr/share/man" / f"man{page.suffix[1:]}" / f"{page.name}.gz", page.read_text())
    for name, target in COMPLETIONS.items():
        if (script := ROOT / "packaging" / "completions" / name).is_file():
            _put(stage / target, script.read_text())
    documents = stage / "usr/share/doc/gemmad"
    _put(documents / "copyright", _copyright())
    _put_gzipped(documents / "changelog.gz", _changelog(version))
    _put(documents / "offline.conf", (ROOT / "systemd" / "offline.conf").read_text())
    if (example := ROOT / "packaging" / "gemmad.toml").is_file():
        _put(documents / "examples" / "gemmad.toml", example.read_text())
    _put(stage / "usr/share/lintian/overrides/gemmad", (PARTS / "lintian-overrides").read_text())


def _place_control(stage: Path, version: str, *, python: str, architecture: str) -> None:
    major, minor = map(int, python.split("."))
    kilobytes = sum(-(-os.lstat(path).st_size // 1024) for path in stage.rglob("*") if not path.is_dir())
    control = (PARTS / "control").read_text().format(
        version=version,
        architecture=architecture,
        maintainer=MAINTAINER,
        size=kilobytes,
        python=f"python3 (>= {python}~), python3 (<< {major}.{minor + 1}~), python{python}",
    )  # fmt: skip
    files = sorted(path for path in stage.rglob("*") if path.is_file() and not path.is_symlink())
    sums = "".join(f"{_md5(path)}  {path.relative_to(stage)}\n" for path in files)
    _put(stage / "DEBIAN/control", control)
    _put(stage / "DEBIAN/md5sums", sums)
    for script in ("postinst", "prerm", "postrm"):
        _put(stage / "DEBIAN" / script, (PARTS / script).read_text(), mode=0o755)


# --- its papers -------------------------------------------------------------------------------------------------------


def _copyright() -> str:
    """Of gemmad, and of each package in it by its own words."""
    lines = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
        "Upstream-Name: gemmad",
        "",
        "Files: *",
        "Copyright: the gemmad developers",
        "License: Apache-2.0",
        " On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.",
    ]
    for name in sorted(_needed()):
        told = metadata.metadata(name)
        licence = told.get("License-Expression") or next(_classified(told.get_all("Classifier") or ()), "see-comment")
        author = (told.get("Author") or told.get("Author-email") or "its authors").splitlines()[0]
        lines += ["", f"Files: {HOME}/lib/*/{name.replace('-', '_')}*", f"Copyright: {author}"]
        lines += [
            f"License: {licence.replace(' ', '-')}",
            f" Its words are in {name.replace('-', '_')}-*.dist-info there.",
        ]
    return "\n".join(lines) + "\n"


def _classified(classifiers: list[str] | tuple[()]) -> Iterator[str]:
    return (line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: "))


def _changelog(version: str) -> str:
    when = datetime.datetime.fromtimestamp(_epoch(), datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
    return f"gemmad ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- {MAINTAINER}  {when}\n"


def _version() -> str:
    found = re.search(r'__version__ = "(.+)"', (ROOT / "gemmad" / "__init__.py").read_text())
    assert found is not None
    return re.sub(r"\.?(a|b|rc|dev)(\d+)", r"~\1\2", found[1])


# --- small things -----------------------------------------------------------------------------------------------------


def _debians_python() -> str:
    told = subprocess.run([PYTHON, "-Ic", "import sys; print(*sys.version_info[:2], sep='.')"], check=True, stdout=-1)
    return told.stdout.decode().strip()


def _epoch() -> int:
    """When this was made, for whoever builds it twice."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or (ROOT / "CHANGELOG.md").stat().st_mtime)


def _settle_modes(stage: Path) -> None:
    for path in [stage, *stage.rglob("*")]:
        if path.is_symlink():
            continue
        executable = path.is_dir() or (path.parent.name in {"bin", "DEBIAN"} and os.access(path, os.X_OK))
        path.chmod(0o755 if executable else 0o644)
        os.utime(path, (_epoch(), _epoch()))


def _put(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _put_gzipped(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324 - what dpkg --verify reads


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
