"""Where workers keep what they have compiled."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gemmad.supervisor.caches import compile_caches
from gemmad.supervisor.process import worker_environment


def test_in_the_cache_folder(tmp_path: Path) -> None:
    """Folders are made for their owner only and are left when the daemon ends; a worker's environment names them."""
    folder = tmp_path / "cache" / "gemmad"
    with compile_caches(folder, {"PATH": "/bin"}) as caches:
        env = worker_environment({"PATH": "/bin"}, caches | {"CUDA_VISIBLE_DEVICES": "GPU-1"})
    assert env["TRITON_CACHE_DIR"] == str(folder / "triton")
    assert env["CUDA_CACHE_PATH"] == str(folder / "cuda")
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    for path in (folder / "triton", folder / "cuda"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert not os.listdir(path)


@pytest.mark.parametrize("chosen", ["TRITON_CACHE_DIR", "TRITON_HOME"])
def test_a_persons_choice_holds(tmp_path: Path, chosen: str) -> None:
    """Who has chosen another folder for a compiler keeps it; the other compiler is led to ours."""
    daemon = {chosen: "/elsewhere"}
    with compile_caches(tmp_path, daemon) as caches:
        env = worker_environment(daemon, caches)
    assert env[chosen] == "/elsewhere"
    assert set(caches) == {"CUDA_CACHE_PATH"}


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once and replaced by folders that live as long as the daemon: workers can compile, and do so again."""
    (tmp_path / "file").write_text("in the way")
    with compile_caches(tmp_path / "file", {}, spare=tmp_path) as caches:
        triton = Path(caches["TRITON_CACHE_DIR"])
        assert triton.is_dir()
    assert not triton.exists()
    events = [record.msg for record in caplog.records]
    assert [event["event"] for event in events if isinstance(event, dict)] == ["cache folder cannot be written"]


def test_no_folder_at_all(tmp_path: Path) -> None:
    """Where nothing can be written, the compilers are left to find a place themselves."""
    (tmp_path / "file").write_text("in the way")
    with compile_caches(tmp_path / "file", {}, spare=tmp_path / "file") as caches:
        assert caches == {}
