"""All operations of the API, in the order in which they are told. Tests hold them equal to the app's routes."""

from __future__ import annotations

from typing import Any

from gemmad.api.health import HealthBody, LiveBody, VersionBody
from gemmad.api.openapi.dialects import ANTHROPIC, OLLAMA
from gemmad.api.openapi.openai import OPENAI
from gemmad.api.openapi.operation import Operation
from gemmad.metrics import Metrics

_NOT_NOW = frozenset({503})

_DAEMON = (
    Operation(
        method="get",
        path="/health",
        name="health",
        summary="Whether requests are answered; details for those who have a key",
        tag="daemon",
        answer=HealthBody,
        also=_NOT_NOW,
        open=True,
    ),
    Operation(
        method="get",
        path="/health/ready",
        name="health_ready",
        summary="The same, for probes that want a name of their own",
        tag="daemon",
        answer=HealthBody,
        also=_NOT_NOW,
        open=True,
    ),
    Operation(
        method="get",
        path="/health/live",
        name="health_live",
        summary="Whether the daemon runs",
        tag="daemon",
        answer=LiveBody,
        open=True,
    ),
    Operation(
        method="get",
        path="/version",
        name="version",
        summary="Which gemmad this is",
        tag="daemon",
        answer=VersionBody,
        open=True,
    ),
    Operation(
        method="get",
        path="/metrics",
        name="metrics",
        summary="For Prometheus",
        tag="daemon",
        answer=Metrics.media_type.partition(";")[0],
    ),
    Operation(
        method="get",
        path="/openapi.json",
        name="openapi",
        summary="This description",
        tag="daemon",
        answer=dict[str, Any],
    ),
    Operation(
        method="get",
        path="/",
        name="overview",
        summary="An overview for people",
        tag="daemon",
        answer="text/plain",
    ),
)

OPERATIONS: tuple[Operation, ...] = (*OPENAI, *ANTHROPIC, *OLLAMA, *_DAEMON)
