"""What the supervisor needs of a worker's process, however it comes to be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from gemmad.supervisor.examine import Condition


class Child(Protocol):
    """A process: a real one, or one that a test plays."""

    @property
    def pid(self) -> int: ...

    def pin(self, cpus: Collection[int]) -> None:
        """Run on these processors only."""

    def examine(self) -> Condition | None:
        """Make it write its stacks, and tell what the kernel says of it, where that explains a silence."""

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def close(self) -> None: ...


class Spawn(Protocol):
    """Starts a worker's program, as `partial(Process, command)` does. Raises OSError when it cannot be started."""

    def __call__(
        self,
        *,
        env: Mapping[str, str],
        socket_fd: int,
        on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
    ) -> Child: ...
