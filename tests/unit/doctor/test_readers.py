"""What is read of the machine, from folders that look like its own."""

# ruff: noqa: N802 - the names are the library's

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemmad.api.overview import Configuration
from gemmad.demo import CHECKPOINT
from gemmad.doctor import look
from gemmad.doctor.ask import Reply, ask
from gemmad.doctor.facts import DaemonFacts, Limit, ModelFacts
from gemmad.doctor.gather import read_reply, read_settings, read_torch, whose_paths
from gemmad.doctor.read_gpus import is_worker, read_gpus, read_xids
from gemmad.doctor.read_host import cgroup_limit, clock_synchronised, limits_of, read_folders, read_host
from gemmad.doctor.read_model import read_model
from gemmad.doctor.read_ports import read_port
from gemmad.doctor.read_service import PROPERTIES, read_service
from gemmad.engines.store import Engine, EngineStore
from gemmad.hub.files import Checksum, HubFile
from gemmad.hub.store import MANIFEST, Manifest
from tests.fakes.nvml import GIB, Device, FakeNvml
from tests.unit.cli.operated import overview
from tests.unit.models.formats.checkpoints import Q4_0, Gguf

DAEMON = DaemonFacts(socket="/run/gemmad/control.sock")

# --- children ---------------------------------------------------------------------------------------------------------


def test_a_child_that_hangs_is_given_up() -> None:
    """It is waited for no longer than said, ends with what it has started, and the reply says so."""
    began = time.monotonic()
    reply = ask(("sh", "-c", "sleep 100 & wait"), seconds=0.2)
    assert reply.problem == "no answer within 0.2 seconds"
    assert time.monotonic() - began < 5


def test_what_children_say() -> None:
    """Output, status and last words; a program that is not there is a problem and raises nothing."""
    reply = ask(("sh", "-c", "echo a; echo b >&2; exit 3"), seconds=5)
    assert (reply.output, reply.status, reply.errors, reply.problem) == (b"a\n", 3, "b", None)
    assert ask(("/nonexistent",), seconds=1).problem == "/nonexistent: No such file or directory"
    assert read_reply(reply, ModelFacts).problem == "b"
    assert read_reply(Reply(status=-9), ModelFacts).problem == "it ended with -9"
    assert "strange" in str(read_reply(Reply(b"[]"), ModelFacts).problem)
    assert read_reply(Reply(problem="no"), ModelFacts).problem == "no"


@pytest.mark.parametrize(
    ("what", "arguments"), [(look.PORT, ("127.0.0.1", "1")), (look.FOLDERS, ("state=/",)), (look.GPUS, ())]
)
def test_looks_are_programs(what: str, arguments: tuple[str, ...]) -> None:
    """Each runs as a process of its own, and says what it would say here."""
    reply = ask((sys.executable, "-m", "gemmad.doctor.look", what, *arguments), seconds=60)
    assert (reply.status, reply.errors) == (0, "")
    here = msgspec.json.decode(msgspec.json.encode(look.look(what, arguments)))
    assert type(msgspec.json.decode(reply.output)) is type(here)


def test_nobody_looks_at_nothing() -> None:
    """An unknown part is a mistake of ours."""
    with pytest.raises(ValueError, match="nobody looks at 'x'"):
        look.look("x", ())


# --- GPUs -------------------------------------------------------------------------------------------------------------


class Library(FakeNvml):
    """It tells versions and some of a GPU's health."""

    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.95.05"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13010

    def nvmlDeviceGetCudaComputeCapability(self, _: Any) -> tuple[int, int]:
        return 9, 0

    def nvmlDeviceGetTotalEccErrors(self, *_: Any) -> int:
        return 3

    def nvmlDeviceGetRemappedRows(self, _: Any) -> tuple[int, int, int, int]:
        return 0, 1, 1, 0

    def nvmlDeviceGetPersistenceMode(self, _: Any) -> int:
        return 1

    def nvmlDeviceGetMaxPcieLinkWidth(self, _: Any) -> int:
        return 16


def test_gpus(tmp_path: Path) -> None:
    """Versions, health as far as the driver tells it, and which holders are workers of gemmad's."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cmdline").write_bytes(b"/usr/bin/python3\0-m\0gemmad.worker\0")
    library = Library(Device(uuid="GPU-a", processes=((7, GIB), (8, None))), Device(uuid="GPU-b", lost=True))
    seen = read_gpus(library=library, proc=tmp_path, kernel_log=tmp_path / "none")
    assert (seen.driver, seen.cuda, seen.xids) == ("580.95.05", (13, 1), None)
    assert seen.workers == {7}
    (health,) = seen.health
    assert (health.capability, health.uncorrected_errors, health.persistent) == ((9, 0), 3, True)
    assert (health.remap_pending, health.remap_failed) == (True, False)
    assert (health.pcie_width, health.pcie_width_most) == (None, 16)
    assert library.open == 0
    assert msgspec.json.decode(msgspec.json.encode(seen), type=type(seen)) == seen
    assert not is_worker(9, tmp_path)


def test_xids(tmp_path: Path) -> None:
    """Faults that the driver has written into the kernel's log, the latest last."""
    log = tmp_path / "kmsg"
    log.write_text("4,1,1,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1, GPU has fallen off the bus.\n")
    assert read_xids(log) == ("Xid (PCI:0000:01:00): 79, pid=1, GPU has fallen off the bus.",)
    assert read_xids(tmp_path / "none") is None


# --- torch ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a folder of engines; the Python of the current one is this shell script."""

    def make(script: str) -> Path:
        store = EngineStore(tmp_path / "engines")
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        with store.changing():
            name = store.begin("own").name
            versions = {"torch": "2", "python": "3"}
            store.finish(
                Engine(name=name, kind="own", python=str(python), site="/", versions=versions, made="2026-11-23")
            )
            store.use(name)
        return store.folder

    return make


def test_what_the_workers_python_tells(engine: Callable[[str], Path]) -> None:
    """Its torch, and whether CUDA begins in it, from the last line that it prints."""
    facts = {"torch": "2.13", "cuda": "13.0", "python": "3.12", "site": "/", "arches": ["sm_90"], "cuda_problem": None}
    seen = read_torch(engine(f"case $* in *probe*--cuda) echo noise; echo '{json.dumps(facts)}';; esac")).value
    assert seen is not None
    assert (seen.where, seen.torch, seen.cuda, seen.arches) == ("engine own-1", "2.13", "13.0", ("sm_90",))
    assert (seen.problem, seen.cuda_problem) == (None, None)


def test_a_python_that_no_worker_can_run_in(engine: Callable[[str], Path]) -> None:
    """Its last word, what is strange, that it hangs, or that it is gone."""
    failed = read_torch(engine("echo Traceback >&2; echo 'ImportError: libcudart' >&2; exit 1")).value
    assert failed is not None
    assert failed.problem == "ImportError: libcudart"
    strange = read_torch(engine("echo hello")).value
    assert strange is not None
    assert "something strange" in str(strange.problem)
    assert read_torch(engine("sleep 60"), seconds=0.2).problem == "no answer within 0.2 seconds"
    folder = engine("true")
    (folder.parent / "python").unlink()
    gone = read_torch(folder).value
    assert gone is not None
    assert "is broken" in str(gone.problem)


# --- host -------------------------------------------------------------------------------------------------------------


def test_this_host() -> None:
    """The machine that this runs on has memory, processors and limits."""
    seen = read_host()
    assert seen.memory_bytes > 1 << 28
    assert 1 <= seen.usable_cores <= seen.cores
    assert seen.open_files.soft
    assert clock_synchronised() in (True, False, None)
    own = limits_of(os.getpid())
    assert own is not None
    assert own.soft == seen.open_files.soft
    assert limits_of(1 << 30) is None


def test_a_limit_of_a_cgroup(tmp_path: Path) -> None:
    """The least of those from ours upwards holds."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    inner = tmp_path / "sys/fs/cgroup/a/b"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    assert cgroup_limit(tmp_path) is None
    (inner.parent / "memory.max").write_text("4096\n")
    assert cgroup_limit(tmp_path) == 4096
    (tmp_path / "proc/9").mkdir()
    (tmp_path / "proc/9/limits").write_text("Max open files  1024  unlimited  files\n")
    assert limits_of(9, tmp_path / "proc") == Limit(1024, None)


def test_folders(tmp_path: Path) -> None:
    """One that is not there is judged by the folder above it, and nothing is made."""
    there, missing = read_folders([("state", tmp_path), ("cache", tmp_path / "a/b")])
    assert (there.exists, there.writable, there.read_only) == (True, True, False)
    assert there.free_bytes
    assert (missing.exists, missing.writable) == (False, True)
    assert list(tmp_path.iterdir()) == []


def test_ports() -> None:
    """Whoever listens is found, with its process; wildcards are in everybody's way, other addresses in nobody's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (holder,) = read_port("127.0.0.1", port)
        assert (holder.address, holder.pid, holder.uid) == ("127.0.0.1", os.getpid(), os.geteuid())
        assert read_port("0.0.0.0", port) == read_port("", port) == (holder,)
        assert read_port("127.0.0.2", port) == ()
    assert read_port("127.0.0.1", port) == ()
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert read_port("127.0.0.1", server.getsockname()[1])[0].address == "0.0.0.0"


# --- model ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the bundled model."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "model"))


def test_a_whole_model(checkpoint: Path) -> None:
    """The bundled model has no fault."""
    seen = read_model(checkpoint)
    assert (seen.faults, seen.text_problem, seen.pulled) == ((), None, None)
    assert seen.shape is not None
    assert seen.bytes > 1 << 20
    assert msgspec.json.decode(msgspec.json.encode(seen), type=ModelFacts) == seen


def test_faults_of_a_model(checkpoint: Path) -> None:
    """Weights that are cut, overlong or no safetensors, an index that names more, and files that are missing."""
    (weights,) = checkpoint.glob("*.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    assert read_model(checkpoint).faults == (f"{weights}: has {len(whole) - 10} bytes and should have {len(whole)}",)
    weights.write_bytes(b"<html>")
    (fault,) = read_model(checkpoint).faults
    assert "no safetensors file" in fault
    weights.write_bytes(whole)
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.b": weights.name, "c": "model-2.safetensors"}}))
    faults = read_model(checkpoint).faults
    assert any("lacks 1 tensors" in fault and fault.endswith("such as a.b") for fault in faults)
    assert any(fault.startswith(f"{checkpoint / 'model-2.safetensors'}: missing") for fault in faults)
    index.write_text("{")
    assert any("cannot be read" in fault for fault in read_model(checkpoint).faults)
    index.unlink()
    weights.unlink()
    (checkpoint / "tokenizer.json").unlink()
    seen = read_model(checkpoint)
    assert any("no weights" in fault for fault in seen.faults)
    assert "tokenizer.json" in str(seen.text_problem)
    (checkpoint / "config.json").write_text("{}")
    assert any("model_type" in fault for fault in read_model(checkpoint).faults)


def test_faults_of_a_model_in_gguf(checkpoint: Path) -> None:
    """Files that are cut off, a vision tower or a part that is missing, and small files that do not lie beside it."""
    (weights,) = checkpoint.glob("*.safetensors")
    weights.unlink()
    tower, network = checkpoint / "mmproj-F16.gguf", checkpoint / "demo-q4_0.gguf"
    file = Gguf()
    file.add("blk.0.attn_q.weight", Q4_0, (1, 32), bytes(18))
    file.write(network)
    (fault,) = read_model(checkpoint).faults
    assert fault == f"{checkpoint}: config.json has a vision tower, and no mmproj*.gguf lies beside {network.name}"
    Gguf().write(tower)
    assert read_model(checkpoint).faults == ()
    network.write_bytes(network.read_bytes()[:-1])
    assert all("it may have been cut off" in fault for fault in read_model(checkpoint).faults)
    tower.write_bytes(b"<html>")
    assert f"{tower} is no GGUF file" in read_model(checkpoint).faults
    Gguf().write(tower)
    file.write(checkpoint / "other-q4_0.gguf")
    file.write(network)
    assert any("are different models; keep one" in fault for fault in read_model(checkpoint).faults)
    (checkpoint / "other-q4_0.gguf").unlink()
    (checkpoint / "tokenizer.json").unlink()
    assert any("has no tokenizer.json beside it" in fault for fault in read_model(checkpoint).faults)


def test_what_was_pulled(checkpoint: Path) -> None:
    """Small files are compared with the checksums that were noted, large ones by size, and cut pulls are seen."""
    name = "tokenizer_config.json"
    data = (checkpoint / name).read_bytes()
    blob = Checksum(HubFile(name, len(data), ""))
    blob.update(data)
    good = HubFile(name, len(data), blob._hash.hexdigest())
    manifest = Manifest(repo="a/b", revision=None, commit="c" * 40, pulled_at=0, files=(good,))
    (checkpoint / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    seen = read_model(checkpoint)
    assert (seen.pulled, seen.hashed, seen.faults) == (f"a/b at {'c' * 12}", 1, ())
    bad = (HubFile(name, len(data), "0" * 40), HubFile("config.json", 1, ""), HubFile("gone.json", 1, ""))
    (checkpoint / MANIFEST).write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=bad)))
    words = " ".join(read_model(checkpoint).faults)
    assert all(each in words for each in ("is not what was pulled", "and 1 were pulled", "and it was pulled"))
    (checkpoint.parent / ".pulling" / "other").mkdir(parents=True)
    missing = read_model(checkpoint.parent / "other")
    assert (missing.exists, missing.unfinished) == (False, True)


# --- settings, service ------------------------------------------------------------------------------------------------


def test_settings(tmp_path: Path) -> None:
    """Mistakes of the file and of the keys are the same as everywhere, and nothing of a key is kept."""
    file = tmp_path / "g.toml"
    file.write_text("[server]\nprot = 1\nport = 'x'\n")
    seen = read_settings(file, {})
    assert [error.partition(": ")[2][:12] for error in seen.errors] == ["server.prot:", "server.port:"]
    assert (seen.config, seen.closed) == (None, False)
    (tmp_path / "keys").write_text("alice:sk-secret-1234\n")
    (tmp_path / "keys").chmod(0o640)
    file.write_text("[auth]\napi_keys_file = 'keys'\n")
    seen = read_settings(file, {})
    (keys,) = seen.key_files
    assert (keys.mode, keys.keys, seen.errors) == (0o640, 1, ())
    assert "sk-secret" not in repr(seen)
    file.write_text("[server]\nhost = '0.0.0.0'\n")
    assert "no API key is set" in read_settings(file, {}).errors[0]


def test_whose_folders() -> None:
    """Those of the system's daemon where that is the one which runs, else of whoever asks."""
    session = {"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/u"}
    running = msgspec.structs.replace(DAEMON, overview=overview())
    assert whose_paths(running, session, uid=7).state_dir == Path("/var/lib/gemmad")
    assert whose_paths(DAEMON, session, uid=7).runtime_dir == Path("/run/user/7/gemmad")
    own = msgspec.structs.replace(running, socket="/run/user/7/gemmad/control.sock")
    assert whose_paths(own, session, uid=7).runtime_dir == Path("/run/user/7/gemmad")
    assert overview(config=Configuration(path=None, reload=None)).config.path is None


def test_what_systemd_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units that are installed, with what was asked of them; a manager that does not answer is told."""
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    asked = []

    def call(command: tuple[str, ...], *, seconds: float) -> Reply:
        asked.append(command)
        if "--user" in command:
            return Reply(problem=f"no answer within {seconds:g} seconds")
        return Reply(b"LoadState=loaded\nActiveState=active\nStatusText=a=b\n")

    seen = read_service(seconds=2.0, booted=tmp_path, call=call)
    assert asked[0] == ("systemctl", "show", f"--property={','.join(PROPERTIES)}", "gemmad.service")
    assert [unit.get("StatusText") for unit in seen.units] == ["a=b"]
    assert seen.problem == "systemctl --user show: no answer within 2 seconds"
    missing = read_service(seconds=2.0, booted=tmp_path, call=lambda *_, **__: Reply(b"LoadState=not-found\n"))
    assert (missing.runs, missing.units, missing.problem) == (True, (), None)
    assert not read_service(seconds=2.0, booted=tmp_path / "none").runs
