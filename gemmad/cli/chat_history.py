"""What has been said in a chat, as the API wants it: text, images by path, and whose turn it was."""

from __future__ import annotations

import base64
import mimetypes
import stat
from pathlib import Path
from typing import Any

IMAGE_LIMIT_BYTES = 64 << 20
"""Above it a file is no picture that any daemon takes; its own limits are lower and have their own words."""


class ImageFileError(Exception):
    """A path that leads to no picture."""


class History:
    """Turns of user and model after the system's words. A turn counts once it is answered: see `keep`."""

    def __init__(self, system: str | None = None) -> None:
        self.system = system
        self._turns: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        """Shown with the next turn."""

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def attached(self) -> int:
        """How many images wait for the next turn."""
        return len(self._images)

    def attach(self, path: Path) -> None:
        """Show this image with the next turn, read now. Raises ImageFileError."""
        self._images.append({"type": "image_url", "image_url": {"url": data_url(path)}})

    def asking(self, text: str) -> list[dict[str, Any]]:
        """The messages that ask this next, its images before its words."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self._turns, self._turn(text)]

    def keep(self, text: str, answer: str) -> None:
        """It was asked with the images that wait, and this is what was said to it, be it cut short."""
        self._turns += [self._turn(text), {"role": "assistant", "content": answer}]
        self._images.clear()

    def reset(self) -> None:
        """Forget all turns and images; the system's words stay."""
        self._turns.clear()
        self._images.clear()

    def _turn(self, text: str) -> dict[str, Any]:
        content = [*self._images, {"type": "text", "text": text}] if self._images else text
        return {"role": "user", "content": content}


def data_url(path: Path) -> str:
    """The file as a URL that has it whole; whether it is a picture is for the daemon to say. Raises ImageFileError."""
    try:
        found = path.expanduser().stat()
        if not stat.S_ISREG(found.st_mode):
            raise ImageFileError(f"{path} is not a file")
        if found.st_size > IMAGE_LIMIT_BYTES:
            raise ImageFileError(f"{path} is too large for a picture: {found.st_size >> 20} MiB")
        data = path.expanduser().read_bytes()
    except (OSError, RuntimeError) as error:
        raise ImageFileError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    kind = mimetypes.guess_type(path.name)[0] or ""
    kind = kind if kind.startswith("image/") else "image/png"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
