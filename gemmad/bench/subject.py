"""What is measured: a checkpoint's folder, or one made up from a shape, and the engine built over it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import torch

from gemmad.bench.floor import Cost
from gemmad.bench.hardware import dtype_on
from gemmad.bench.shapes import link_first_layers, write_shape
from gemmad.bench.sizes import Sizes
from gemmad.bench.wanted import Wanted
from gemmad.demo import CHECKPOINT
from gemmad.engine.build import assemble, build_engine
from gemmad.engine.engine import Engine
from gemmad.engine.memory import shape_of
from gemmad.generation import EngineSettings, WeightFormat, usual_page_tokens
from gemmad.models.config import ModelConfig, read_config
from gemmad.models.weights import Weights, random_weights
from gemmad.planning.codes import weight_pieces

Progress = Callable[[str, float], None]


class Subject:
    """The network under measurement. Weights that were made up are kept, those of a checkpoint can be read again."""

    def __init__(self, wanted: Wanted, folder: Path, *, device: torch.device, sizes: Sizes) -> None:
        """`folder` is empty and ours until the run ends."""
        self.device = device
        self.dtype = dtype_on(device)
        self.layers = wanted.layers
        self.random = wanted.random_weights
        self.folder = _folder(wanted, folder)
        self.name = _name(wanted)
        self.config: ModelConfig = read_config(self.folder)
        self.settings = EngineSettings(
            checkpoint=str(self.folder),
            device=str(device),
            max_context=min(wanted.context or sizes.context, self.config.text.max_context),
            max_sequences=wanted.sequences or sizes.sequences,
            page_tokens=wanted.page_tokens or usual_page_tokens(str(device)),
            attention=wanted.attention,
            weights=wanted.weights,
            kv=wanted.kv,
            cpu_threads=wanted.threads,
        )
        self._weights: Weights | None = None

    def build_engine(self, progress: Progress) -> Engine:
        """As a worker does it, but for weights that are made up. Not warmed up yet."""
        if self.random is None:
            return build_engine(self.settings, progress=progress)
        return assemble(self.config, self.weights(), self.settings, progress=progress)

    def weights(self) -> Weights:
        """Those that were made up, on the device."""
        assert self.random is not None
        if self._weights is None:
            self._weights = random_weights(self.config, device=self.device, dtype=self.dtype, format=self._made_up)
        return self._weights

    @property
    def cost(self) -> Cost:
        """What its work costs at least, in the formats that it is measured in."""
        text, itemsize, settings = self.config.text, self.dtype.itemsize, self.settings
        coded = sum(weight_pieces(shape_of(self.config), settings.weights, itemsize=itemsize))
        return Cost(text, itemsize, coded_bytes=coded, kv_coded=settings.kv in ("fp8", "int8"))

    @property
    def _made_up(self) -> WeightFormat:
        return "bf16" if self.settings.weights == "auto" else self.settings.weights

    def let_go(self) -> None:
        """Forget the weights."""
        self._weights = None
        free_device(self.device)


def free_device(device: torch.device) -> None:
    """Give back what nobody holds any more, and lift the bound that an engine has set on the allocator."""
    gc.unfreeze()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def _name(wanted: Wanted) -> str:
    name = f"random weights, {wanted.random_weights} shape"
    if wanted.random_weights is None:
        model = Path(str(wanted.model))
        name = "the bundled model" if model == CHECKPOINT else model.resolve().name
    formats = (("weights", wanted.weights), ("KV cache", wanted.kv))
    coded = [f"{what} in {kind}" for what, kind in formats if kind not in ("auto", "bf16")]
    parts = [name, *coded] if wanted.layers is None else [name, f"first {wanted.layers} layers", *coded]
    return ", ".join(parts)


def _folder(wanted: Wanted, empty: Path) -> Path:
    if wanted.random_weights is not None:
        write_shape(wanted.random_weights, empty, layers=wanted.layers)
        return empty
    source = Path(str(wanted.model))
    if wanted.layers is None:
        return source
    read_config(source)  # says in plain words what is wrong with the folder
    link_first_layers(source, empty, layers=wanted.layers)
    return empty
