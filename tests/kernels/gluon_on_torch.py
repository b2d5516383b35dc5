"""As much of Gluon as `gemmad.kernels.triton.hopper` uses, played on a CPU with torch's tensors.

Triton's interpreter knows no Gluon. Here a kernel's Python runs as it stands, one program after the other. What is
asynchronous on a GPU is played as late or as early as it may come: copies land when they are called for or when they
are waited for, products are computed when they are started or when they are waited for. A kernel that reads too early
gets NaN or a product of old keys, one that waits for what never comes is stopped, and so is one that calls data into
a tile which threads may not have finished reading.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from gemmad.kernels import triton as kernels

PROGRAM: dict[str, Any] = {"late": False, "ids": (0, 0), "grid": (1, 1), "unmet": set(), "reading": []}
"""The program that runs, whether copies and products come late, and what of its shared memory is being read."""


@dataclass
class Pointer:
    """A tensor's memory from an offset on, or from many."""

    memory: torch.Tensor
    offset: Any = 0

    def __add__(self, other: Any) -> Pointer:
        return Pointer(self.memory, self.offset + other)


@dataclass
class Tile:
    """Shared memory, or a view of it; `name` tells which of the tiles of an allocation."""

    data: torch.Tensor
    name: tuple[int, ...]
    layout: Any = None

    def index(self, at: Any) -> Tile:
        return Tile(self.data[int(at)], (*self.name, int(at)), self.layout)

    def permute(self, order: tuple[int, int]) -> Tile:
        return Tile(self.data.permute(order), self.name, self.layout)

    def store(self, values: torch.Tensor) -> None:
        assert self.name not in PROGRAM["unmet"], "written while others may be reading"
        self.data.copy_(values)

    def load(self, layout: Any) -> torch.Tensor:
        return self.data.clone()


@dataclass
class Barrier:
    """An mbarrier: phases that end when the bytes they expect have come."""

    ended: int = 0
    missing: int = 0
    landing: list[Any] = field(default_factory=list)


@dataclass
class Product:
    """A product under way."""

    a: Any
    b: Tile
    start: torch.Tensor
    value: torch.Tensor | None = None

    def compute(self) -> torch.Tensor:
        if self.value is None:
            a = self.a.data if isinstance(self.a, Tile) else self.a
            self.value = self.start + a.float() @ self.b.data.float()
        return self.value

    @property
    def read(self) -> set[tuple[int, ...]]:
        return {self.b.name} | ({self.a.name} if isinstance(self.a, Tile) else set())


@dataclass
class Descriptor:
    """A table in memory that is called in by blocks."""

    base: torch.Tensor
    shape: list[int]
    strides: list[int]
    block_shape: list[int]
    layout: Any

    @property
    def block_type(self) -> Any:
        rows, columns = self.block_shape
        return type("Block", (), {"nbytes": rows * columns * self.base.element_size()})


class Kernel:
    """A jitted function: called from another it is Python, launched it runs once for each program."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __getitem__(self, grid: tuple[int, int]) -> Any:
        def launch(*args: Any, **options: Any) -> None:
            values = [Pointer(arg.view(-1)) if isinstance(arg, torch.Tensor) else arg for arg in args]
            constants = {name: value for name, value in options.items() if name.isupper()}
            for ids in itertools.product(*(range(count) for count in grid)):
                PROGRAM.update(ids=ids, grid=grid, unmet=set(), reading=[])
                self.function(*values, **constants)

        return launch


def _jit(function: Any = None, **_: Any) -> Any:
    return Kernel(function) if function else Kernel


def _load(pointer: Pointer, mask: Any = None, other: Any = 0) -> Any:
    offset = pointer.offset
    if not isinstance(offset, torch.Tensor) or offset.dim() == 0:
        return pointer.memory[int(offset)]
    kept = torch.ones_like(offset, dtype=torch.bool) if mask is None else mask.expand_as(offset)
    return torch.where(kept, pointer.memory[torch.where(kept, offset, 0)], other)


def _store(pointer: Pointer, values: torch.Tensor, mask: torch.Tensor) -> None:
    kept = mask.expand_as(pointer.offset)
    pointer.memory[pointer.offset[kept]] = values[kept]


_allocations = itertools.count()


def _allocate(dtype: torch.dtype, shape: list[int], layout: Any) -> Any:
    if dtype == torch.int64:
        barriers = [Barrier() for _ in range(shape[0])]
        return type("Barriers", (), {"index": staticmethod(lambda at: barriers[int(at)])})
    return Tile(torch.full(shape, float("nan"), dtype=dtype), (next(_allocations),), layout)


def _expect(barrier: Barrier, size: int) -> None:
    assert barrier.missing == 0, "the last phase has not ended"
    barrier.missing = size


def _call_in(table: Descriptor, corner: list[Any], barrier: Barrier, tile: Tile) -> None:
    assert tile.name not in PROGRAM["unmet"], "called into a tile that others may be reading"
    assert all(tile.name not in product.read for product in PROGRAM["reading"]), "called into a tile that is being read"
    row, column = (int(at) for at in corner)
    rows, columns = table.block_shape
    block = table.base[row : row + rows, column : column + columns]
    assert block.shape == (rows, columns), "outside of the table"
    size = rows * columns * table.base.element_size()

    def land() -> None:
        tile.data.copy_(block)
        barrier.missing -= size

    if PROGRAM["late"]:
        tile.data.fill_(float("nan"))
        barrier.landing.append(land)
    else:
        land()
        _end_phase(barrier)


def _end_phase(barrier: Barrier) -> None:
    if barrier.missing == 0:
        barrier.ended += 1


def _wait(barrier: Barrier, phase: Any) -> None:
    if barrier.landing:
        for land in barrier.landing:
            land()
        barrier.landing.clear()
        _end_phase(barrier)
    assert barrier.ended % 2 != int(phase) % 2, "waits for what nobody has called for"


def _multiply(a: Any, b: Tile, start: torch.Tensor, *, use_acc: bool = True, is_async: bool) -> Product:
    assert is_async
    product = Product(a, b, start if use_acc else torch.zeros_like(start))
    if not PROGRAM["late"]:
        product.compute()
    PROGRAM["reading"].append(product)
    return product


def _settle(outstanding: int, products: list[Product]) -> torch.Tensor:
    under_way = PROGRAM["reading"]
    while len(under_way) > outstanding:
        done = under_way.pop(0)
        done.compute()
        PROGRAM["unmet"] |= done.read
    (product,) = products
    assert product not in under_way, "used before it is waited for"
    return product.compute()


def _meet() -> None:
    PROGRAM["unmet"] = set()


def _either(condition: Any, yes: Any, no: Any) -> Any:
    return torch.where(torch.as_tensor(condition), yes, no)


def _wider(a: Any, b: Any) -> Any:
    return torch.maximum(torch.as_tensor(a), torch.as_tensor(b))


def _narrower(a: Any, b: Any) -> Any:
    return torch.minimum(torch.as_tensor(a), torch.as_tensor(b))


def _language() -> ModuleType:
    language = ModuleType("language")
    for name in ("NVMMADistributedLayout", "BlockedLayout", "SliceLayout", "DotOperandLayout"):
        setattr(language, name, lambda *_: None)
    language.__dict__.update(
        constexpr=int,
        bfloat16=torch.bfloat16,
        float32=torch.float32,
        int32=torch.int32,
        int64=torch.int64,
        NVMMASharedLayout=type("Shared", (), {"get_default_for": staticmethod(lambda *_: None)}),
        static_range=range,
        program_id=lambda axis: PROGRAM["ids"][axis],
        num_programs=lambda axis: PROGRAM["grid"][axis],
        arange=lambda first, last, _: torch.arange(first, last),
        full=lambda shape, value, dtype, _: torch.full(shape, value, dtype=dtype),
        load=_load,
        store=_store,
        where=_either,
        maximum=_wider,
        minimum=_narrower,
        max=lambda values, axis: values.amax(axis),
        sum=lambda values, axis: values.sum(axis),
        exp2=torch.exp2,
        convert_layout=lambda values, _: values,
        allocate_shared_memory=_allocate,
        barrier=_meet,
    )
    return language


@contextmanager
def _in_place_of_gluon() -> Iterator[None]:
    root = "triton.experimental"
    gluon, nvidia = ModuleType("gluon"), ModuleType("nvidia")
    hopper, descriptors = ModuleType("hopper"), ModuleType("descriptors")
    gluon.__dict__.update(jit=_jit, language=_language())
    hopper.__dict__.update(
        fence_async_shared=lambda: None,
        mbarrier=type("mbarrier", (), {
            "MBarrierLayout": lambda: None, "init": lambda *_, count: None, "invalidate": lambda *_: None,
            "expect": staticmethod(_expect), "wait": staticmethod(_wait),
        }),
        tma=type("tma", (), {"async_load": staticmethod(_call_in)}),
        warpgroup_mma=_multiply,
        warpgroup_mma_wait=_settle,
    )  # fmt: skip
    descriptors.__dict__.update(TensorDescriptor=Descriptor)
    ours = {
        f"{root}.gluon": gluon,
        f"{root}.gluon.language": gluon.language,
        f"{root}.gluon.language.nvidia": nvidia,
        f"{root}.gluon.language.nvidia.hopper": hopper,
        f"{root}.gluon.nvidia": nvidia,
        f"{root}.gluon.nvidia.hopper": descriptors,
        root: ModuleType("experimental"),
        "triton": ModuleType("triton"),
    }
    ours[root].__dict__["gluon"] = gluon
    before = {name: sys.modules.get(name) for name in ours}
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def played(name: str) -> Any:
    """The module of that name among gemmad's Triton kernels, its Gluon played on this CPU."""
    spec = importlib.util.spec_from_file_location(f"played_{name}", Path(kernels.__path__[0]) / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _in_place_of_gluon():
        spec.loader.exec_module(module)
    return module
