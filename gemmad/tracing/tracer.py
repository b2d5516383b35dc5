"""Which requests are traced, and where their spans go."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from gemmad.errors import ConfigError
from gemmad.logs import get_logger
from gemmad.tracing.context import TraceContext, new_context
from gemmad.tracing.outbox import Outbox
from gemmad.tracing.span import Span, Told

FLUSH_SECONDS = 3.0
"""For what is left to be sent when the daemon stops."""
NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")

log = get_logger("gemmad.tracing")


class Tracer:
    """What the HTTP side is given; there is none where nobody wants spans. Whoever opened it closes it."""

    def __init__(
        self, put: Callable[[Told], None], *, share: Callable[[], float], flush: Callable[[], None] = lambda: None
    ) -> None:
        """`share` of the requests whose callers do not say is traced, 0 to 1. `flush` ends what `put` has begun."""
        self._put = put
        self._share = share
        self._flush = flush

    def begin(self, caller: TraceContext | None) -> TraceContext | None:
        """Where a request stands: in its caller's trace, sampled or not as the caller says; else, if it is one of the
        share, at the beginning of a trace."""
        if caller is not None:
            return caller
        begun = new_context(self._share())
        return begun if begun.sampled else None

    def tell(self, context: TraceContext, root: Span) -> None:
        """Send a request's spans. Never waits."""
        self._put(Told(context, root))

    def close(self) -> None:
        """Send what is left; takes `FLUSH_SECONDS` at most."""
        self._flush()


def open_tracer(endpoint: str | None, *, share: Callable[[], float], version: str) -> Tracer | None:
    """A tracer that sends to a collector, or None without one. Raises ConfigError without the extra."""
    if endpoint is None:
        return None
    require_extra(endpoint)
    from gemmad.tracing.otlp import Exporter

    exporter = Exporter(endpoint, version=version)
    outbox = Outbox(exporter.send)

    def flush() -> None:
        outbox.close(seconds=FLUSH_SECONDS)
        exporter.close()

    log.info("spans are sent", url=exporter.url)
    return Tracer(outbox.put, share=share, flush=flush)


def require_extra(endpoint: str | None, *, load: Callable[[str], object] = importlib.import_module) -> None:
    """Raises ConfigError if spans are wanted and OpenTelemetry is not there."""
    if endpoint is None:
        return
    try:
        for name in NEEDED:
            load(name)
    except ImportError as error:
        raise ConfigError(
            f"tracing.endpoint: spans need OpenTelemetry, which is not installed ({error}); "
            "install it with: pip install 'gemmad[otel]'"
        ) from None
