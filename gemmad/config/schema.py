"""Every setting, once: type, default, bounds, what it means, and when a change takes effect.

`live` settings are swapped at once, `recycle` settings need new workers, one of which tries them first, `restart`
settings a new daemon.
A section is frozen; a class elsewhere takes the section it needs, never the whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gemmad.config.quantities import Address, Bytes, HostName, Origin, Seconds, TimeOfDay
from gemmad.generation import AttentionBackend, KVFormat, WeightFormat

When = Literal["live", "recycle", "restart"]
GpuName = Annotated[str, Field(coerce_numbers_to_str=True)]


def setting(default: Any, doc: str, when: When, **bounds: Any) -> Any:
    """One key of a section: default, one sentence, and when a change takes effect."""
    return Field(default=default, description=doc, json_schema_extra={"when": when}, **bounds)


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSection(Section):
    """Where clients connect."""

    host: str = setting("127.0.0.1", "Address to listen on.", "restart")
    port: int = setting(4363, "TCP port to listen on; 0 takes a free one.", "restart", ge=0, le=65535)
    uds: Path | None = setting(None, "Unix socket to listen on instead of host and port.", "restart")
    max_body: Bytes = setting(64 << 20, "Largest request body.", "live", ge=1024)
    ping_every: Seconds = setting(5.0, "Pause after which a silent stream sends a comment line.", "live", gt=0)
    allow_open: bool = setting(
        False, "Serve on an address that other machines can reach although no API key is set.", "live"
    )
    allowed_hosts: tuple[HostName, ...] = setting(
        (),
        "Names that clients may call the server by, beside localhost and loopback addresses; `*.example.com` is all "
        "below it, `*` any.",
        "live",
    )
    cors_origins: tuple[Origin, ...] = setting(
        (), "Origins such as `https://chat.example.com` whose web pages may call the API; `*` is all.", "live"
    )


class AuthSection(Section):
    """Who may call. Without any key everybody may who can connect."""

    api_keys_file: Path | None = setting(
        None,
        "File with one key a line; none takes systemd's credential `api-keys`, if there is one. It is watched too.",
        "live",
    )
    admin_keys_file: Path | None = setting(
        None, "The same for the keys of operators; none takes the credential `admin-keys`.", "live"
    )
    max_concurrent: int | None = setting(
        None,
        "Requests that one key may have under way, operators' aside; one more is a 429.",
        "live",
        ge=1,
    )


class ModelSection(Section):
    """What is served."""

    path: Path | None = setting(
        None,
        "Folder of the checkpoint, laid out as on the hub, or the name of one that `gemmad pull` fetched, such as "
        "`google/gemma-3-4b-it`.",
        "restart",
    )
    served_names: tuple[str, ...] = setting(
        (),
        "Names clients may ask for; the first is the one reported. None takes the pulled model's name, whole and "
        "short, or the folder's.",
        "live",
    )
    chat_template: Path | None = setting(None, "Jinja file used instead of the checkpoint's chat template.", "restart")


class EngineSection(Section):
    """How a worker computes."""

    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Where to compute; auto takes GPUs if any.", "restart")
    dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "What is computed in; auto is float32 on a CPU and bfloat16 on a GPU.", "recycle"
    )
    weights: WeightFormat = setting(
        "auto",
        "What matrices are kept in: bf16 (which is `dtype`, whatever that says), or codes of 8 bits (fp8, int8) or 4 "
        "(int4); auto takes what the checkpoint comes in if that is coded, else the first of bf16, fp8, int8 and int4 "
        "that fits, fp8 only on a GPU that multiplies it.",
        "recycle",
    )
    kv: KVFormat = setting(
        "auto",
        "What the KV cache is kept in: bf16 (which is `dtype`), or codes of 8 bits, fp8 or int8, for nearly twice the "
        "tokens; auto takes bf16 if that fits, else fp8 on a GPU that multiplies it, else int8.",
        "recycle",
    )
    max_context: int | None = setting(None, "Longest prompt and reply together, in tokens.", "recycle", ge=16)
    max_sequences: int = setting(64, "Requests that one worker computes at a time.", "recycle", ge=1, le=4096)
    max_step_tokens: int = setting(2048, "Tokens that one step computes at most.", "recycle", ge=16, le=65536)
    attention: AttentionBackend = setting(
        "auto",
        "Who computes the attention of long prompts on a GPU: gemmad's Triton kernel, torch's own FlashAttention 2, or "
        "flash-attn if installed; auto takes what was fastest where it was measured.",
        "recycle",
    )
    prefix_cache: bool = setting(True, "Keep what was computed for the prompts of later requests.", "recycle")
    page_tokens: int | None = setting(
        None, "Tokens in one page of the KV cache; none takes 64 on a GPU and 16 on a CPU.", "recycle", ge=1, le=256
    )


class MemorySection(Section):
    """What a worker takes of its device, all of it at start."""

    fraction: float = setting(0.9, "Share of the GPU's memory that a worker may take.", "recycle", gt=0, le=0.98)
    reserve: Bytes = setting(1 << 30, "Bytes of that share left untouched.", "recycle", ge=0)
    kv_bytes: Bytes | None = setting(None, "Bytes for the KV cache; none takes what is left.", "recycle", ge=1 << 16)


class WorkersSection(Section):
    """The supervised processes."""

    count: int = setting(1, "Workers when computing on the CPU.", "restart", ge=1, le=64)
    per_gpu: int = setting(1, "Workers on each GPU.", "restart", ge=1, le=8)
    gpus: Literal["all"] | tuple[GpuName, ...] = setting(
        "all", "GPUs to use, by index (0, or 0:1 for a MIG slice) or UUID.", "restart"
    )
    cpu_threads: int | None = setting(None, "Threads of a CPU worker; none shares the cores.", "restart", ge=1)
    zygote: bool = setting(
        True, "Keep a process that has imported what a worker needs: a worker's next life begins as its fork.", "live"
    )
    load_timeout: Seconds = setting(600.0, "A worker that loads longer without a sign of life is killed.", "live", gt=0)
    hang_timeout: Seconds = setting(30.0, "A ready worker without a heartbeat for so long is killed.", "live", gt=0)
    memory_timeout: Seconds = setting(
        60.0, "Time for a GPU's memory to come back before a worker is started all the same.", "live", gt=0
    )
    stop_grace: Seconds = setting(10.0, "Time for a worker to stop before it is killed.", "live", gt=0)
    restart_pause: Seconds = setting(0.5, "Pause after a first crash; it doubles with each one after.", "live", gt=0)
    restart_pause_limit: Seconds = setting(60.0, "The longest pause between restarts.", "live", gt=0)
    restart_budget: int = setting(5, "Crashes in a row before a worker counts as failed.", "live", ge=1)
    restart_forgiveness: Seconds = setting(600.0, "Time after which a crash counts half.", "live", gt=0)


class RecycleSection(Section):
    """When a worker that serves is renewed: its next life begins, its requests go on, and nobody notices."""

    every: Seconds | None = setting(None, "Age at which a worker is renewed.", "live", ge=1)
    at: tuple[TimeOfDay, ...] = setting((), "Times of day at which every worker is renewed.", "live")
    after_requests: int | None = setting(None, "Requests after which a worker is renewed.", "live", ge=1)
    vram_drift: Bytes | None = setting(
        512 << 20, "Memory that a worker may take on its GPU beyond what it had when it was ready.", "live", ge=1
    )
    fragmentation: float | None = setting(
        None, "Share of what a worker has taken on its GPU that may lie idle.", "live", gt=0, lt=1
    )
    host_rss: Bytes | None = setting(None, "Resident memory that a worker's process may have.", "live", ge=1)
    grace: Seconds = setting(
        60.0, "Time for requests to finish on a worker that is renewed; then they move on.", "live", ge=0
    )
    jitter: float = setting(
        0.1, "How far renewals are spread: a share of `every`, or of an hour after `at`.", "live", ge=0, le=1
    )


class DispatchSection(Section):
    """The queue before the workers."""

    max_waiting: int = setting(
        1024, "Requests that may wait, of one key three quarters of that; one more is a 429.", "live", ge=0
    )
    max_wait: Seconds = setting(300.0, "Longest time a request may wait for its first token.", "live", gt=0)
    request_timeout: Seconds = setting(3600.0, "Longest time a request may take in all.", "live", gt=0)
    max_failovers: int = setting(
        8, "Workers that one request may lose to crashes and hangs before it is given up.", "live", ge=0
    )


class MediaSection(Section):
    """Images: where they may come from and how large they may be."""

    processes: int = setting(2, "Processes that decode images.", "restart", ge=1, le=32)
    max_images: int = setting(32, "Images in one request.", "live", ge=0, le=60)
    max_bytes: Bytes = setting(20 << 20, "Largest image file.", "live", ge=1024)
    max_pixels: int = setting(50_000_000, "Largest image in pixels, before resizing.", "live", ge=1)
    memory: Bytes = setting(
        1 << 30, "Address space that a media process may add for one image.", "restart", ge=64 << 20
    )
    timeout: Seconds = setting(20.0, "Time to fetch and decode one image.", "live", gt=0)
    fetch: bool = setting(True, "Whether http and https URLs are fetched.", "live")
    allow_private: bool = setting(False, "Whether URLs may lead to private and loopback addresses.", "live")


class GrammarSection(Section):
    """What replies are held to: schemas, regular expressions, grammars."""

    max_bytes: Bytes = setting(256 << 10, "Largest schema or grammar, all tools together.", "live", ge=1024)
    timeout: Seconds = setting(5.0, "Time to compile one.", "live", gt=0)
    memory: Bytes = setting(512 << 20, "Address space that compiling one may take.", "restart", ge=64 << 20)
    processes: int = setting(1, "Processes that compile; each starts when it is first needed.", "restart", ge=1, le=32)
    cached: int = setting(256, "Compiled ones that are kept.", "live", ge=0)


class SamplingSection(Section):
    """Defaults where a request is silent; none takes the checkpoint's generation_config."""

    temperature: float | None = setting(None, "Default temperature.", "live", ge=0, le=2)
    top_p: float | None = setting(None, "Default top_p.", "live", gt=0, le=1)
    top_k: int | None = setting(None, "Default top_k; 0 is off.", "live", ge=0)
    min_p: float | None = setting(None, "Default min_p.", "live", ge=0, le=1)
    max_tokens: int | None = setting(None, "Default length of a reply; none is what the context leaves.", "live", ge=1)


class ShutdownSection(Section):
    """The daemon's end."""

    grace: Seconds = setting(30.0, "Time for running requests to finish after SIGTERM.", "live", ge=0)


class MonitorSection(Section):
    """What is measured while it serves, how long that is kept, and when somebody is told."""

    interval: Seconds = setting(10.0, "Pause between two samples of each worker's memory.", "live", ge=1, le=3600)
    keep: Seconds = setting(7 * 86400.0, "Time for which samples are kept on disk.", "live", ge=60)
    keep_bytes: Bytes = setting(256 << 20, "Most that the samples may take on disk.", "live", ge=1 << 20)
    warning: float = setting(0.8, "Share of a memory from which on it is warned about.", "live", gt=0, le=1)
    critical: float = setting(0.95, "Share of a memory from which on it is critical.", "live", gt=0, le=1)
    hysteresis: float = setting(
        0.05, "How far a share has to fall below its threshold until that is over.", "live", ge=0, le=0.5
    )
    webhook: Address | None = setting(None, "URL to which each alert is posted, as JSON.", "live")
    webhook_timeout: Seconds = setting(10.0, "Time for one post.", "live", gt=0, le=300)


class TracingSection(Section):
    """Spans of each request, for OpenTelemetry; they need the extra `gemmad[otel]`."""

    endpoint: Address | None = setting(
        None, "Where spans go, OTLP over HTTP, such as `http://127.0.0.1:4318`; none makes none.", "restart"
    )
    sample: float = setting(1.0, "Share of requests that are traced if their caller does not say.", "live", ge=0, le=1)


class LoggingSection(Section):
    """What is written about it all."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "Least severe event that is logged.", "live")
    format: Literal["auto", "console", "json"] = setting("auto", "auto is console on a terminal, json else.", "restart")


class Config(Section):
    """The whole file. Only `daemon.run` sees it whole."""

    server: ServerSection = ServerSection()
    auth: AuthSection = AuthSection()
    model: ModelSection = ModelSection()
    engine: EngineSection = EngineSection()
    memory: MemorySection = MemorySection()
    workers: WorkersSection = WorkersSection()
    recycle: RecycleSection = RecycleSection()
    dispatch: DispatchSection = DispatchSection()
    media: MediaSection = MediaSection()
    grammar: GrammarSection = GrammarSection()
    sampling: SamplingSection = SamplingSection()
    shutdown: ShutdownSection = ShutdownSection()
    monitor: MonitorSection = MonitorSection()
    tracing: TracingSection = TracingSection()
    logging: LoggingSection = LoggingSection()
