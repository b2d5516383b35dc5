"""`GET /api/version`, `/api/tags`, `/api/ps` and `POST /api/show`: by these editors find the model by themselves."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gemmad.api.body import decode_object, read_body
from gemmad.api.ollama import wire
from gemmad.api.ollama.schema import ShowRequest, parse
from gemmad.api.services import Services
from gemmad.errors import InvalidRequestError, UnavailableError
from gemmad.planning.gguf import find_gguf
from gemmad.planning.shape import ModelShape, read_shape
from gemmad.supervisor.lifecycle import State

SPOKEN_VERSION = "0.13.5"
"""Of the Ollama whose words these are. Editors ask for 0.6.4 at least, the first that tells capabilities."""
FAMILY = "gemma3"
NEVER = "9999-12-31T23:59:59Z"
_LATEST = ":latest"
_FORMATS = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_QUANTITIES = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K"))


class Checkpoint(Struct, frozen=True):
    """What its folder tells."""

    shape: ModelShape
    number_format: str
    """Of its weights, in Ollama's words."""
    file_format: str
    """`gguf` or `safetensors`."""
    size_bytes: int
    """Of the files with its weights."""
    digest: str
    modified_at: float

    @property
    def parameters(self) -> int:
        """Numbers in its matrices."""
        return self.shape.weight_bytes(2) - self.shape.weight_bytes(1)


class _Formats(Struct, frozen=True):
    """config.json, by its newer and its older key."""

    dtype: str | None = None
    torch_dtype: str | None = None


class Catalogue:
    """The endpoints that tell what is served."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def version(self, request: Request) -> Response:
        """Of Ollama, not of gemmad."""
        del request
        return _json(wire.Version(SPOKEN_VERSION))

    async def tags(self, request: Request) -> Response:
        """All names, each as a model."""
        del request
        names = self._services.names()
        if not names:
            return _json(wire.Tags(()))
        checkpoint = await self._checkpoint()
        details, modified_at = _details(checkpoint), wire.stamp(checkpoint.modified_at)
        return _json(
            wire.Tags(
                tuple(
                    wire.Tag(name, name, modified_at, checkpoint.size_bytes, checkpoint.digest, details)
                    for name in names
                )
            )
        )

    async def ps(self, request: Request) -> Response:
        """The model, once a worker has it; it is never unloaded for want of requests."""
        del request
        workers = [status for status in self._services.workers() if status.state is State.READY]
        if not workers or not self._services.names():
            return _json(wire.RunningList(()))
        checkpoint = await self._checkpoint()
        name = self._services.names()[0]
        running = wire.Running(
            name=name,
            model=name,
            size=checkpoint.size_bytes,
            digest=checkpoint.digest,
            details=_details(checkpoint),
            expires_at=NEVER,
            size_vram=sum(status.load.device_bytes for status in workers if status.load is not None),
            context_length=self._context_length(checkpoint),
        )
        return _json(wire.RunningList((running,)))

    async def show(self, request: Request) -> Response:
        """One of them. Raises UnknownModelError, and UnavailableError while it is being read."""
        body = decode_object(await read_body(request, limit_bytes=self._services.server().max_body))
        asked = parse(ShowRequest, body)
        name = asked.model or asked.name
        if name is None:
            raise InvalidRequestError(
                "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
            )
        name = model_name(self._services, name)
        served = self._services.ready()
        checkpoint = await self._checkpoint()
        defaults = served.text.defaults
        sampling = {"temperature": defaults.temperature, "top_k": defaults.top_k, "top_p": defaults.top_p}
        return _json(
            wire.Show(
                license="",
                modelfile=f"FROM {name}\n",
                parameters="\n".join(f"{key:<30} {value:g}" for key, value in sampling.items()),
                template=served.text.template.source,
                details=_details(checkpoint),
                model_info=_model_info(name, checkpoint, context_length=self._context_length(checkpoint)),
                capabilities=("completion", "tools", *(("vision",) if served.media is not None else ())),
                modified_at=wire.stamp(checkpoint.modified_at),
            )
        )

    def _context_length(self, checkpoint: Checkpoint) -> int:
        return self._services.max_context() or checkpoint.shape.max_context

    async def _checkpoint(self) -> Checkpoint:
        folder = self._services.checkpoint()
        if folder is None:
            raise UnavailableError("No model is configured.", retry_after_seconds=60.0)
        return await asyncio.to_thread(read_checkpoint, folder)


def model_name(services: Services, asked: str) -> str:
    """The name as it is reported: Ollama's clients add a tag to one that has none. Raises UnknownModelError."""
    plain = asked.removesuffix(_LATEST)
    return services.model_name(plain if asked not in services.names() else asked)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Looks at its files, not into the weights. Raises CheckpointError."""
    shape = read_shape(folder)
    gguf = find_gguf(folder)
    paths = sorted(folder.glob("*.safetensors")) if gguf is None else gguf.paths
    weights = [(path.name, path.stat().st_size) for path in paths]
    config = folder / "config.json"
    content = config.read_bytes()
    formats = msgspec.json.decode(content, type=_Formats)
    return Checkpoint(
        shape=shape,
        number_format=_FORMATS.get(formats.dtype or formats.torch_dtype or "", "unknown")
        if shape.coded is None
        else shape.coded.layers.kind.upper(),
        file_format="safetensors" if gguf is None else "gguf",
        size_bytes=sum(size for _, size in weights),
        digest=hashlib.sha256(content + repr(weights).encode()).hexdigest(),
        modified_at=config.stat().st_mtime,
    )


def _details(checkpoint: Checkpoint) -> wire.Details:
    return wire.Details(
        "", checkpoint.file_format, FAMILY, (FAMILY,), _quantity(checkpoint.parameters), checkpoint.number_format
    )


def _model_info(name: str, checkpoint: Checkpoint, *, context_length: int) -> dict[str, str | int]:
    shape = checkpoint.shape
    own: dict[str, str | int] = {
        "context_length": context_length,
        "embedding_length": shape.hidden_size,
        "feed_forward_length": shape.intermediate_size,
        "block_count": len(shape.full_layers),
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim,
        "attention.sliding_window": shape.window,
        "vocab_size": shape.vocab_size,
    }
    general: dict[str, str | int] = {
        "general.architecture": FAMILY,
        "general.basename": name,
        "general.parameter_count": checkpoint.parameters,
    }
    return general | {f"{FAMILY}.{key}": value for key, value in own.items()}


def _quantity(count: int) -> str:
    for unit, letter in _QUANTITIES:
        if count >= unit:
            return f"{count / unit:.1f}{letter}"
    return str(count)


def _json(body: Struct) -> Response:
    return Response(wire.encode(body), media_type="application/json")
