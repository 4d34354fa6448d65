"""Pictures changed at random, so that a network does not learn them by heart. All draws come from the given generator.

They are made on the CPU, and sent without waiting for the device. One resampling does flip, rotation and translation
together; what comes in from outside is the picture's reflection.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from jobs.catalogue.images import Augmentation
from jobs.problem import Augment


def augmentation(params: Augmentation) -> Augment | None:
    """What these parameters ask for: square pictures (B, C, S, S) of -1 to 1 -> the same; none, if nothing."""
    moves = params.flip or params.rotation > 0 or params.translation > 0

    def change(pictures: Tensor, draws: torch.Generator) -> Tensor:
        if moves:
            pictures = moved(pictures, affine(params, len(pictures), draws))
        return recoloured(pictures, params.color, draws) if params.color else pictures

    return change if moves or params.color else None


def affine(params: Augmentation, count: int, draws: torch.Generator) -> Tensor:
    """Where each picture's pixels come from, as `affine_grid` takes it: (count, 2, 3).

    Each is rotated about its centre by up to ± rotation degrees, moved by up to ± translation of its side along each
    axis, and mirrored left to right half the time.
    """
    turn, across, down, side = (2 * torch.rand(4, count, generator=draws) - 1).unbind()
    angle = turn * math.radians(params.rotation)
    mirror = torch.where(side < 0, -1.0, 1.0) if params.flip else torch.ones(count)  # sign() of a draw of 0 is 0
    moves = 2 * params.translation * torch.stack([across, down])  # grid_sample's side is 2
    first = torch.stack([angle.cos() * mirror, -angle.sin() * mirror, moves[0]])
    second = torch.stack([angle.sin(), angle.cos(), moves[1]])
    return torch.stack([first, second]).permute(2, 0, 1)


def moved(pictures: Tensor, matrices: Tensor) -> Tensor:
    """The pictures resampled, bilinear."""
    grid = functional.affine_grid(
        matrices.to(pictures.device, non_blocking=True), list(pictures.shape), align_corners=False
    )
    found = functional.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return found.contiguous(memory_format=torch.channels_last)


def recoloured(pictures: Tensor, most: float, draws: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation of each picture times 1 ± most at most."""
    factors = 1 + most * (2 * torch.rand(3, len(pictures), 1, 1, 1, generator=draws) - 1)
    brightness, contrast, saturation = factors.to(pictures.device, non_blocking=True).unbind()
    changed = (pictures + 1).mul_(brightness).sub_(1)  # in place from here: new memory costs more than the sums
    mean = changed.mean((1, 2, 3), keepdim=True)
    changed.sub_(mean).mul_(contrast).add_(mean)
    gray = changed.mean(1, keepdim=True)
    return changed.sub_(gray).mul_(saturation).add_(gray).clamp_(-1, 1)
