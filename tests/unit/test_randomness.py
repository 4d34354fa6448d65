"""Stateless randomness: what is drawn follows from the seed and the purpose alone."""

import torch

from jobs.randomness import Purpose, drawn_from, dropout_keys, generator, mix, order


def test_seeds_of_different_jobs_purposes_and_epochs_differ() -> None:
    seeds = {mix(seed, purpose, epoch) for seed in (0, 1, 10, 2**40) for purpose in Purpose for epoch in range(100)}
    assert len(seeds) == 4 * len(Purpose) * 100
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix(1, Purpose.ORDER, 23) != mix(12, Purpose.ORDER, 3)


def test_seeds_are_the_same_in_every_version() -> None:
    """A change here would give every job other numbers: then resumed jobs no longer equal undisturbed ones."""
    assert mix(0, Purpose.INIT) == 2868608401659173989
    assert order(5, seed=0, epoch=1).tolist() == [1, 4, 3, 2, 0]


def test_an_order_holds_every_row_once_and_changes_with_the_epoch() -> None:
    first, second = order(100, seed=3, epoch=1), order(100, seed=3, epoch=2)
    assert sorted(first.tolist()) == list(range(100))
    assert not torch.equal(first, second)
    assert torch.equal(first, order(100, seed=3, epoch=1))


def test_dropout_keys_differ_from_step_to_step() -> None:
    keys = [key for epoch in (1, 2) for key in dropout_keys(1000, seed=0, epoch=epoch).tolist()]
    assert len(set(keys)) == 2000


def test_torchs_own_stream_is_left_as_it_was() -> None:
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    first = torch.rand(1)
    with drawn_from(0, Purpose.INIT):
        inside = torch.rand(3)
    generator(0, Purpose.SPLIT)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
    with drawn_from(0, Purpose.INIT):
        assert torch.equal(torch.rand(3), inside)
