"""The optimisers: Muon for matrices, AdamW for all the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

WEIGHT_DECAY = 0.05


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by Newton-Schulz iterations (K. Jordan, 2024), scaled to AdamW's step size."""

    def __init__(self, parameters: list[nn.Parameter], *, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all matrices, those of one shape together."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in alike.items():
                for parameter in parameters:
                    momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                    momentum.lerp_(parameter.grad, 0.05)
                nesterov = [p.grad.lerp(self.state[p]["momentum"], 0.95) for p in parameters if p.grad is not None]
                updates = orthogonal(torch.stack(nesterov)) * (0.2 * max(shape) ** 0.5)
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-group["lr"])


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest orthogonal matrices to `[n, rows, columns]`, roughly: five Newton-Schulz iterations."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x: Tensor = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x if wide else x.mT


class Descent:
    """Both optimisers over some named parameters."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        matrices: list[nn.Parameter] = []
        self.others: list[nn.Parameter] = []
        for name, parameter in named:
            (matrices if parameter.ndim == 2 and "embed" not in name else self.others).append(parameter)
        self.optimisers = (
            Muon(matrices, weight_decay=WEIGHT_DECAY),
            torch.optim.AdamW(self.others, betas=(0.9, 0.98), weight_decay=0.0),
        )

    def step(self, rate: float) -> None:
        """One step along the gradients gathered so far, which are forgotten."""
        nn.utils.clip_grad_norm_(self.others, 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
