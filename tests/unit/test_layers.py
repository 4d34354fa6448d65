"""Dropout by counters, standardised columns, and the weights that networks start with."""

import math
from typing import Literal

import pytest
import torch
from torch import nn

from jobs.layers import BothLogits, Dropout, Standardise, Unstandardise, dropouts, mlp
from jobs.randomness import Purpose, drawn_from, dropout_keys


def layer(p: float, key: int, number: int = 0) -> Dropout:
    made = Dropout(p)
    made.key.fill_(key)
    made.layer = number
    return made


def masks(p: float, keys: list[int], rows: int = 64, columns: int = 500) -> torch.Tensor:
    """(keys, rows * columns) of 0.0 and 1.0: what is kept."""
    ones = torch.ones(rows, columns)
    return torch.stack([(layer(p, key)(ones) > 0).float().flatten() for key in keys])


class TestDropout:
    @pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
    def test_it_keeps_the_wanted_part_and_scales_it(self, p: float) -> None:
        keys = dropout_keys(50, seed=1, epoch=1).tolist()
        kept = masks(p, keys)
        tolerance = 4 * math.sqrt(p * (1 - p) / kept.numel())  # four standard deviations of a fair draw
        assert kept.mean().item() == pytest.approx(1 - p, abs=tolerance)
        values = layer(p, keys[0])(torch.full((4, 100), 2.0)).unique()
        torch.testing.assert_close(values, torch.tensor([0.0, 2 / (1 - p)]))

    def test_masks_of_steps_layers_and_neighbours_are_independent(self) -> None:
        """No two of them agree more often than two fair draws would, by five standard deviations."""
        keys = dropout_keys(20, seed=1, epoch=1).tolist() + dropout_keys(20, seed=2, epoch=1).tolist()
        kept = masks(0.5, keys)
        other_layer = (layer(0.5, keys[0], number=1)(torch.ones(64, 500)) > 0).float().flatten()
        signs = torch.cat([kept, other_layer[None]]) * 2 - 1
        correlation = signs @ signs.T / signs.shape[1]
        off = correlation[~torch.eye(len(signs), dtype=torch.bool)]
        assert off.abs().max().item() < 5 / math.sqrt(signs.shape[1])
        for lag in (1, 2, 3, 16, 500, 1000):
            shifted = (signs[:, lag:] * signs[:, :-lag]).mean().item()
            assert abs(shifted) < 5 / math.sqrt(signs[:, lag:].numel()), f"neighbours at distance {lag}"

    def test_every_bit_of_its_numbers_is_fair(self) -> None:
        x = torch.empty(200_000)
        for key in dropout_keys(5, seed=0, epoch=1).tolist():
            words = (layer(0.5, key).uniform(x) * 2**24).long()
            for bit in range(24):
                share = ((words >> bit) & 1).float().mean().item()
                assert share == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(len(x))), f"bit {bit}"

    def test_the_same_key_gives_the_same_mask(self) -> None:
        x = torch.randn(16, 8)
        assert torch.equal(layer(0.3, 5)(x), layer(0.3, 5)(x))

    def test_without_training_or_with_p_0_nothing_changes(self) -> None:
        x = torch.randn(16, 8)
        assert torch.equal(layer(0.5, 5).eval()(x), x)
        assert torch.equal(layer(0.0, 5)(x), x)
        keeping = layer(0.0, 5)
        keeping.idle = False  # as in a pack whose other rows do drop
        assert torch.equal(keeping(x), x)

    def test_under_vmap_each_row_has_its_own_p_and_key_and_the_mask_it_has_alone(self) -> None:
        base, x = layer(0.5, 0, number=3), torch.randn(4, 16, 8)
        p, key = torch.tensor([0.0, 0.2, 0.5, 0.9]), dropout_keys(4, seed=0, epoch=1)

        def forward(p: torch.Tensor, key: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(base, {"p": p, "key": key}, (x,))

        packed = torch.func.vmap(forward)(p, key, x)
        for row in range(4):
            alone = layer(float(p[row]), int(key[row]), number=3)
            assert torch.equal(packed[row], alone(x[row]))

    def test_no_file_keeps_its_p_and_key(self) -> None:
        assert not Dropout(0.2).state_dict()

    def test_a_networks_layers_are_numbered(self) -> None:
        network = mlp(4, [3, 3, 3], 2, dropout=0.2)
        assert [found.layer for found in dropouts(network)] == [0, 1, 2]


class TestStandardise:
    def test_fitted_columns_have_mean_0_and_std_1(self) -> None:
        rows = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.1, 50]) + 1000
        module = Standardise((3,))
        module.fit(rows)
        out = module(rows)
        torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
        torch.testing.assert_close(out.std(0, correction=0), torch.ones(3), atol=2e-2, rtol=0)

    def test_a_constant_column_becomes_0(self) -> None:
        module = Standardise((1,))
        module.fit(torch.full((5, 1), 7.0))
        assert torch.equal(module(torch.tensor([[7.0], [8.0]])), torch.tensor([[0.0], [1.0]]))

    def test_outputs_return_to_the_targets_unit(self) -> None:
        values = torch.tensor([[10.0], [20.0], [60.0]])
        module = Unstandardise((1,))
        module.fit(values)
        torch.testing.assert_close(module(module.standardise(values)), values)


def test_one_logit_and_both_logits_mean_the_same_probability() -> None:
    logit = torch.tensor([[-2.0], [0.0], [3.0]])
    torch.testing.assert_close(BothLogits()(logit).softmax(1)[:, 1:], logit.sigmoid())


class TestMlp:
    def test_its_layers_follow_the_parameters(self) -> None:
        network = mlp(4, [8, 6], 3, activation="tanh", dropout=0.1, batch_norm=True)
        kinds = [type(module) for module in network]
        assert kinds == [nn.Linear, nn.BatchNorm1d, nn.Tanh, Dropout] * 2 + [nn.Linear]
        assert [module.out_features for module in network if isinstance(module, nn.Linear)] == [8, 6, 3]

    def test_without_hidden_layers_it_is_linear(self) -> None:
        assert [type(module) for module in mlp(4, [], 3)] == [nn.Linear]

    @pytest.mark.parametrize(
        ("init", "std"), [("he", math.sqrt(2 / 200)), ("xavier", math.sqrt(2 / 500)), ("default", 1 / math.sqrt(600))]
    )
    def test_weights_start_with_the_spread_that_the_papers_give(
        self, init: Literal["default", "he", "xavier"], std: float
    ) -> None:
        with drawn_from(0, Purpose.INIT):
            first = mlp(200, [300], 1, init=init)[0]
        assert isinstance(first, nn.Linear)
        assert first.weight.std().item() == pytest.approx(std, rel=0.02)
        assert (first.bias == 0).all() == (init != "default")

    def test_one_seed_gives_one_network(self) -> None:
        networks = []
        for seed in (0, 0, 1):
            with drawn_from(seed, Purpose.INIT):
                networks.append(mlp(4, [5], 3))
        first, same, other = (network[0].get_parameter("weight") for network in networks)
        assert torch.equal(first, same)
        assert not torch.equal(first, other)
