"""What a device offers one program of a kernel."""

from __future__ import annotations

import functools
from typing import Any

import torch


@functools.cache
def shared_memory_bytes(device: torch.device) -> int:
    """What one program may have of it; on a CPU, where an interpreter plays the device, a Hopper's."""
    if device.type != "cuda":
        return 227 << 10
    properties: Any = torch.cuda.get_device_properties(device)  # torch's stubs lack the field
    room: int = properties.shared_memory_per_block_optin
    return room
