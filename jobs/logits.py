"""How classes are learned: two by one logit and binary cross-entropy, more by a logit each and cross-entropy.

One place decides, by the number of classes, how many outputs a network has; all else follows from what it has.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from jobs import losses
from jobs.layers import BothLogits


def outputs(classes: Sequence[str]) -> int:
    """Of a network that learns these classes."""
    return 1 if len(classes) == 2 else len(classes)


def after(outputs: int) -> nn.Module:
    """From so many outputs of a network (B, outputs) to logits (B, classes)."""
    return BothLogits() if outputs == 1 else nn.Identity()


def targets(truth: Tensor, after: nn.Module) -> Tensor:
    """What the loss compares outputs with: class numbers (B,), or of one logit zeros and ones (B, 1)."""
    return truth.float()[:, None] if isinstance(after, BothLogits) else truth


def loss(targets: Tensor) -> losses.Loss:
    """The one that takes such targets."""
    return losses.binary_cross_entropy if targets.is_floating_point() else losses.cross_entropy
