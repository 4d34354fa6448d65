"""A worker tries the store itself: one that fails is told where people look, and ends nothing."""

import logging
from pathlib import Path

import pytest

from jobs.settings import Settings
from workers import store_check
from workers.store_check import StoreCheck
from workers.troubles import Troubles


def test_a_store_that_cannot_be_used_is_told_until_it_can(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    place = tmp_path / "store"
    place.write_text("a file, and no folder")
    troubles = Troubles()
    check = StoreCheck(Settings(home=tmp_path), troubles)
    assert [check.try_once(), check.try_once()] == [False, False]
    told = troubles.lasting()["store"]
    assert told.startswith("the store cannot be used, so no checkpoint is written, and no large model: store ")
    place.unlink()
    assert check.try_once()
    assert (troubles.lasting(), list(place.iterdir())) == ({}, [])
    levels = [record.levelname for record in caplog.records if record.name == store_check.__name__]
    assert levels == ["WARNING", "INFO"], "said when it begins, and when it is over"


def test_a_store_of_a_kind_that_is_not_there_is_told_and_no_end(tmp_path: Path) -> None:
    troubles = Troubles()
    assert not StoreCheck(Settings(home=tmp_path, store="nosuch://x"), troubles).try_once()
    assert "fsspec knows no nosuch://" in troubles.lasting()["store"]
