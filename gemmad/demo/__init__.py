"""The bundled model: a tiny trained Gemma 3 with vision, laid out as on the hub."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"
