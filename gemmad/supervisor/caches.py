"""Where workers keep what they have compiled, so that their next start compiles nothing."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from gemmad.config.paths import make_private
from gemmad.logs import get_logger

_FOLDERS = {
    "triton": ("TRITON_CACHE_DIR", "TRITON_HOME"),
    "cuda": ("CUDA_CACHE_PATH", "CUDA_CACHE_DISABLE"),
}
"""Folder, the variable that names it to the compiler, and another one by which a person may have chosen already."""

_log = get_logger(__name__)


@contextlib.contextmanager
def compile_caches(folder: Path, environ: Mapping[str, str], *, spare: Path | None = None) -> Iterator[dict[str, str]]:
    """Variables for workers that lead their compilers into `folder`, except those that `environ` has chosen.

    A folder that cannot be written is replaced by a temporary one in `spare` (None: the system's place for them), as
    kernels run from files: a worker without any could not compile at all.
    """
    with contextlib.ExitStack() as stack:
        try:
            _require_writable(folder)
        except OSError as error:
            _log.warning("cache folder cannot be written", path=str(folder), reason=error.strerror)
            try:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gemmad-", dir=spare)))
            except OSError:  # nor any other: the compilers' own folders are left
                yield {}
                return
        chosen = {name: names[0] for name, names in _FOLDERS.items() if not any(environ.get(each) for each in names)}
        yield {variable: str(make_private(folder / name)) for name, variable in chosen.items()}


def _require_writable(folder: Path) -> None:
    for name in _FOLDERS:
        with tempfile.TemporaryFile(dir=make_private(folder / name)):
            pass  # permissions alone do not tell: the file system may be read-only, or full
