"""Networks of known layers for many rows at once: one matrix product where one job would do its own.

The same operations serve one row and a thousand, and none of them mixes rows; so a job's numbers do not depend on the
pack it trains in, bit for bit on CPU. What takes care of that is said where it is done.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.layers import Dropout
from jobs.layout import WIDTH, Layout

Named = Mapping[str, Tensor]
Layer = Callable[[Named, Named, Tensor, bool], Tensor]  # (weights, buffers, (K, B, …), training) -> (K, B, …)

# Elementwise without weights. Of the first, each element is exact; the others go through vector instructions for as
# many elements as fit, and through scalar ones, which round in another way, for the rest.
EXACT = (nn.ReLU, nn.Identity, nn.LeakyReLU)
ROUNDED = (nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid, nn.ELU, nn.Softplus, nn.Mish, nn.Hardswish)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
DRAWN_AT_ONCE = 1 << 16  # numbers of dropout masks; more no longer save time


class Stacked:
    """A network of known layers, one after the other."""

    def __init__(self, net: nn.Module) -> None:
        """
        Raises:
            Unknown: it has a layer that is not among them.
        """
        self.keys, self.number = torch.zeros(0, 0), 0  # of the dropout masks (steps, K), and the step that is trained
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.turned: set[str] = set()
        # Of what is used twice, a network names only the first: those names are all that rows hold.
        names = set(held(net))
        layers = list(chain("", net))
        if any(f"{name}{own}" not in names for name, module in layers for own in held(module)):
            raise Unknown
        self.layers = [self._layer(name, module) for name, module in layers]
        self.layout = Layout(net, self.shapes, self.turned)

    def __call__(self, weights: Named, buffers: Named, inputs: Tensor, training: bool) -> Tensor:
        """
        Args:
            weights: as `Layout.views` gives them.
            buffers: (K, …) each.
            inputs: (K, B, …).
        """
        x = inputs
        for layer in self.layers:
            x = layer(weights, buffers, x, training)
        return x

    def _layer(self, name: str, module: nn.Module) -> Layer:
        match module:
            case nn.Linear():
                self._as_row(f"{name}weight", (module.in_features, module.out_features), turned=True)
                if module.bias is not None:
                    self._as_row(f"{name}bias", (1, module.out_features))
                return linear(name, module)
            case nn.BatchNorm1d():
                for weight in ("weight", "bias"):
                    self._as_row(name + weight, (1, module.num_features))
                return batch_norm(name, module)
            case nn.LayerNorm():
                for weight in ("weight", "bias"):
                    self._as_row(name + weight, (1, module.normalized_shape[0]))
                return layer_norm(name, module)
            case Dropout():
                return self._dropout(name, module)
            case nn.Flatten():
                return lambda weights, buffers, x, training: x.flatten(2)
        if type(module) in EXACT:
            return lambda weights, buffers, x, training: cast(Tensor, module(x))
        return rounded(module)

    def _dropout(self, name: str, module: Dropout) -> Layer:
        masks = Masks(module)

        def forward(weights: Named, buffers: Named, x: Tensor, training: bool) -> Tensor:
            if module.idle or not training:
                return x
            return x * masks.of_step(x, buffers[f"{name}p"], self.keys, self.number)

        return forward

    def _as_row(self, name: str, shape: tuple[int, ...], turned: bool = False) -> None:
        self.shapes[name] = shape
        if turned:
            self.turned.add(name)


class Unknown(Exception):
    """A layer that is not among those that can be stacked."""


def chain(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers of nested Sequentials in their order, with the prefix of their weights' names.

    Raises:
        Unknown: one of them is not among the known ones, or does more than such a layer does.
    """
    if any(getattr(module, hooks) for hooks in HOOKS) or hasattr(module, "parametrizations"):
        raise Unknown
    if type(module) is nn.Sequential:
        for child, part in module._modules.items():  # not named_children, which leaves out a layer's second use
            assert part is not None  # Sequential holds modules
            yield from chain(f"{name}{child}.", part)
    elif known(module):
        yield name, module
    else:
        raise Unknown


def held(module: nn.Module) -> list[str]:
    """The names of a layer's weights and buffers."""
    return [name for name, _ in (*module.named_parameters(), *module.named_buffers())]


def known(module: nn.Module) -> bool:
    if any(not weight.requires_grad or weight.dtype != torch.float32 for weight in module.parameters()):
        return False
    if type(module) is nn.BatchNorm1d:
        return module.affine and module.track_running_stats and module.momentum is not None
    if type(module) is nn.LayerNorm:
        return len(module.normalized_shape) == 1 and module.elementwise_affine and module.bias is not None
    if type(module) is nn.Flatten:
        return (module.start_dim, module.end_dim) == (1, -1)
    return type(module) in (nn.Linear, Dropout, *EXACT, *ROUNDED)


def linear(name: str, module: nn.Linear) -> Layer:
    single = module.out_features == 1

    def forward(weights: Named, buffers: Named, x: Tensor, training: bool) -> Tensor:
        weight = weights[f"{name}weight"]
        bias = weights[f"{name}bias"] if module.bias is not None else weight.new_zeros(())
        if single and len(x) == 1:  # one matrix times one vector goes another way than many do: make it two
            return torch.baddbmm(bias.expand(2, 1, 1), x.expand(2, *x.shape[1:]), weight.expand(2, -1, -1))[:1]
        return torch.baddbmm(bias, x, weight)

    return forward


def batch_norm(name: str, module: nn.BatchNorm1d) -> Layer:
    """Ioffe and Szegedy 2015, in operations that round each row as if it were alone; torch's kernel does not."""
    momentum = module.momentum
    assert momentum is not None  # see `known`

    def forward(weights: Named, buffers: Named, x: Tensor, training: bool) -> Tensor:
        means, variances = (buffers[f"{name}running_{what}"][:, None] for what in ("mean", "var"))
        mean, variance = means, variances
        if training:
            mean = x.mean(1, keepdim=True)
            variance = (x - mean).square().mean(1, keepdim=True)
            samples = x.shape[1]
            with torch.no_grad():
                means.mul_(1 - momentum).add_(mean * momentum)  # not lerp: the rest of its loop rounds in another way
                variances.mul_(1 - momentum).add_(variance * (momentum * samples / (samples - 1)))
                buffers[f"{name}num_batches_tracked"].add_(1)
        normed = (x - mean) / (variance + module.eps).sqrt()
        return normed * weights[f"{name}weight"] + weights[f"{name}bias"]

    return forward


def layer_norm(name: str, module: nn.LayerNorm) -> Layer:
    def forward(weights: Named, buffers: Named, x: Tensor, training: bool) -> Tensor:
        normed = functional.layer_norm(x, module.normalized_shape, eps=module.eps)
        return normed * weights[f"{name}weight"] + weights[f"{name}bias"]

    return forward


class Masks:
    """The masks of one dropout layer, scaled; of small ones those of many steps are drawn at once."""

    def __init__(self, module: Dropout) -> None:
        self.module = module
        self.keys: Tensor | None = None  # by which it has drawn
        self.first, self.drawn = 0, torch.zeros(0)  # from this step on: (steps, K, …)

    def of_step(self, x: Tensor, p: Tensor, keys: Tensor, number: int) -> Tensor:
        """
        Args:
            x: (K, B, …) what is dropped out.
            p: (K,) how likely.
            keys: (steps, K).
        """
        one, place = x[0].numel(), number - self.first
        if self.keys is not keys or place >= len(self.drawn) or one > self.drawn[0, 0].numel():
            self.keys, self.first, place = keys, number, 0
            keys = keys[number : number + max(1, DRAWN_AT_ONCE // x.numel())]
            p = p.view(-1, *(1,) * (x.ndim - 1))
            self.drawn = (self.module.uniform(x[0], keys) >= p) / (1 - p)
        mask = self.drawn[place]
        return mask if mask.shape == x.shape else mask.flatten(1)[:, :one].view(x.shape)


def rounded(module: nn.Module) -> Layer:
    def forward(weights: Named, buffers: Named, x: Tensor, training: bool) -> Tensor:
        if x[0].numel() % WIDTH == 0:
            return cast(Tensor, module(x))
        return cast(Tensor, module(padded(x.reshape(-1))))[: x.numel()].view(x.shape)

    return forward


def padded(values: Tensor) -> Tensor:
    """With some more at the end, so that no value of ours is among those of a loop's rest."""
    return torch.cat([values, values.new_zeros(WIDTH, *values.shape[1:])])
