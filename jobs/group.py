"""Rows that go through their network together: all of a pack, or one. How they learn and are measured."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor

from jobs import pausing
from jobs.forward import Forward, Named, precise
from jobs.joined import Joined
from jobs.memory import HEAP
from jobs.metrics import OF_LOSS, measured
from jobs.progress import Part, Seen
from jobs.randomness import Purpose, dropout_keys, generator, lent_streams, mix, order
from jobs.row import Row
from jobs.scaling import unscaled

TOGETHER_ROWS = 512  # samples of each job in one forward pass without gradients; the same however many jobs there are


class Group:
    """K rows of one shape, with their data; their weights are the pack's."""

    def __init__(self, rows: Sequence[Row], forward: Forward) -> None:
        self.rows, self.forward, self.built = rows, forward, rows[0].built
        self.params = [row.params for row in rows]
        self.device, self.precision = self.built.device, rows[0].params.precision
        self.joined = Joined([row.problem for row in rows])
        layout = self.built.layout
        self.rest = torch.zeros(len(rows), layout.size - layout.used, device=self.device)
        norms = [float("inf") if row.params.clip_norm is None else row.params.clip_norm for row in rows]
        self.clips = any(norm < float("inf") for norm in norms)
        self.norms = torch.tensor(norms, device=self.device)[:, None]

    def train(
        self,
        weights: Tensor,
        gradients: Tensor,
        buffers: Named,
        step: Callable[[int], None],
        steps: int,
        part: Part,
        scales: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """One pass over the training rows: loss and metrics (K,) of the outputs as each batch gave them.

        It may be left between two batches, and goes on from there when it is called with the same part again.

        Args:
            weights, gradients: (K, N).
            buffers: (K, …) each.
            step: the optimizer's step of this number, once the gradients are there.
            steps: how many; less than an epoch has, to see how long they take.
            part: what this pass has given so far.
            scales: (K,) factors of the losses whose gradients are computed; `step` may change them.
        """
        batches = self.built.batches[:steps]
        orders = self._orders()[:, : sum(batches)]
        leaves = self.forward.leaves(self.built, weights, buffers)
        keys = self._keys()
        with self._kept(buffers), self._foreign_draws() as seed:
            for number, chosen in islice(enumerate(torch.split(orders, batches, dim=1)), part.done, None):
                pausing.point()
                seed(number)
                if keys is not None:
                    self.forward.draw(self.built, buffers, keys, number)
                seen = self._learn(leaves, gradients, buffers, chosen, number, scales)
                with torch.no_grad():
                    step(number)
                part.add(seen, 1)
                HEAP.tick()
        found = self._judge(part.seen, self.joined.take("train", "truth", orders))
        return part.end(found if scales is None else {**found, "loss": unscaled(found["loss"], scales)})

    def _learn(
        self, leaves: Named, gradients: Tensor, buffers: Named, chosen: Tensor, number: int, scales: Tensor | None
    ) -> Seen:
        """The gradients of these training rows (K, B), and what was seen of them."""
        inputs = self.joined.each(lambda problem: problem.feed, self.joined.take("train", "inputs", chosen))
        targets = self.joined.take("train", "targets", chosen)
        seen = self._look(leaves, buffers, self._augmented(inputs, number), targets, training=True)
        means = seen.losses.mean(1)
        total = means.sum() if scales is None else (means * scales).sum()  # a row's weights move its own mean alone
        found = torch.autograd.grad(total, list(leaves.values()))
        torch.cat([*self.forward.flat(self.built, found), self.rest], 1, out=gradients)
        if scales is not None:
            gradients.div_(scales[:, None])
        if self.clips:
            self._clip(gradients)
        return Seen(seen.losses.detach(), seen.outputs.detach())

    def _clip(self, gradients: Tensor) -> None:
        """Each row as nn.utils.clip_grad_norm_ does."""
        norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
        factors = (self.norms / (norms + 1e-6)).clamp_(max=1.0)
        gradients.mul_(torch.where(self.norms.isinf(), 1.0, factors))

    def _orders(self) -> Tensor:
        """The order of the training rows in the next epoch of each row: (K, n)."""
        n = len(self.built.problem.train)
        return self._drawn(lambda seed, epoch: order(n, seed, epoch))

    def _keys(self) -> Tensor | None:
        """Keys of the dropout masks: (steps, K); None where no row drops anything."""
        for name, layer in self.built.dropouts.items():
            layer.idle = all(row.built.dropouts[name].drops_nothing for row in self.rows)
        if all(layer.idle for layer in self.built.dropouts.values()):
            return None
        steps = len(self.built.batches)
        return self._drawn(lambda seed, epoch: dropout_keys(steps, seed, epoch)).T.contiguous()

    def _drawn(self, draw: Callable[[int, int], Tensor]) -> Tensor:
        """What is drawn for the seed and next epoch of each row, once for equal ones: (K, …)."""
        pairs = [(row.spec.seed, row.epoch + 1) for row in self.rows]
        made = {pair: draw(*pair) for pair in dict.fromkeys(pairs)}
        return torch.stack([made[pair] for pair in pairs]).to(self.device)

    @contextmanager
    def _kept(self, buffers: Named) -> Iterator[None]:
        """After it, also when it was left, the rows have what the network's buffers have become."""
        try:
            yield
        finally:
            self.forward.keep(self.built, buffers)

    @contextmanager
    def _foreign_draws(self) -> Iterator[Callable[[int], None]]:
        """What seeds, for the step of a number, what layers of other libraries draw from torch's own streams.

        Those of many rows draw nothing.
        """
        if self.forward.together:
            yield lambda number: None
            return
        (row,) = self.rows
        with lent_streams(self.device) as seed:
            yield lambda number: seed(mix(row.spec.seed, Purpose.FOREIGN, row.epoch + 1, number))

    def _augmented(self, inputs: Tensor, number: int) -> Tensor:
        if self.built.problem.augment is None:
            return inputs
        changed = []
        for row, own in zip(self.rows, inputs, strict=True):
            assert row.problem.augment is not None  # of all rows, or of none
            changed.append(row.problem.augment(own, generator(row.spec.seed, Purpose.AUGMENT, row.epoch + 1, number)))
        return changed[0][None] if len(changed) == 1 else torch.stack(changed)

    def _look(self, leaves: Named, buffers: Named, inputs: Tensor, targets: Tensor, *, training: bool) -> Seen:
        """The network's outputs for a batch of each row, and their losses; in the precision of the jobs."""
        with precise(self.device, self.precision):
            outputs = self.forward(self.built, leaves, buffers, inputs, training)
        outputs = outputs.float() if self.precision != "float32" else outputs
        found = self.joined.losses(outputs, targets, together=self.forward.together)
        return Seen(found, outputs if self.built.measures else outputs.new_empty(len(outputs), 0))  # of texts too many

    def evaluate(self, name: str, weights: Tensor, buffers: Named, part: Part) -> dict[str, Tensor]:
        """Loss and metrics (K,) of a part of each row's data, still on the device.

        Args:
            part: what this pass has given so far; as `train`, it may be left and called again.
        """
        leaves = self.forward.leaves(self.built, weights, buffers)
        rows = self.built.problem.evaluation_rows
        most = min(rows, TOGETHER_ROWS) if self.forward.together else rows
        with torch.no_grad():
            for raw, targets in self.joined.batches(name, most, part.done):
                pausing.point()
                inputs = self.joined.each(lambda problem: problem.feed, raw)
                part.add(self._look(leaves, buffers, inputs, targets, training=False), raw.shape[1])
            return part.end(self._judge(part.seen, self.joined.all(name, "truth")))

    @torch.no_grad()
    def _judge(self, seen: list[Seen], truth: Tensor) -> dict[str, Tensor]:
        """Loss and metrics (K,) of all batches together."""
        loss = torch.cat([part.losses for part in seen], 1).mean(1)
        found = {"loss": loss, **{name: OF_LOSS[name](loss) for name in self.built.metrics if name in OF_LOSS}}
        if self.built.measures:
            outputs = torch.cat([part.outputs for part in seen], 1)
            predictions = self.joined.each(lambda problem: problem.model.after, outputs)
            for name in self.built.measures:
                found[name] = measured([row.built.measures[name] for row in self.rows], predictions, truth)
        return found


def grouped(rows: Sequence[Row], forward: Forward) -> list[tuple[slice, Group]]:
    """The groups of a pack, and their places in it."""
    if forward.together:
        return [(slice(0, len(rows)), Group(rows, forward))]
    return [(slice(place, place + 1), Group([row], forward)) for place, row in enumerate(rows)]
