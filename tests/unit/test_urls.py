"""URLs are shown without what is secret in them."""

import pytest

from jobs.urls import masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://ana:pw@db:5432/yard", "postgresql+psycopg://ana:***@db:5432/yard"),
        ("redis://:pw@broker:6379/0", "redis://:***@broker:6379/0"),
        ("redis://:p@w/p?w#p:w@broker/0", "redis://:***@broker/0"),
        ("simplecache::ftp://ana:pw@host/folder", "simplecache::ftp://ana:***@host/folder"),
        ("postgresql://db/yard?user=ana&password=pw", "postgresql://db/yard?user=ana&password=***"),
        ("postgresql://ana:pw@db/yard?sslpassword=pw&a=1", "postgresql://ana:***@db/yard?sslpassword=***&a=1"),
        ("https://h/c?AccountKey=pw&sv=1&SIG=pw#top", "https://h/c?AccountKey=***&sv=1&SIG=***#top"),
        ("http://h?access_token=pw&client_secret=pw", "http://h?access_token=***&client_secret=***"),
    ],
)
def test_passwords_and_secret_values_are_hidden(url: str, shown: str) -> None:
    assert masked(url) == shown
    assert "pw" not in masked(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://broker:6379/0",
        "sqlite:////srv/yard.db",
        "s3://bucket/folder@2",
        "postgresql://ana@db:5432/yard?connect_timeout=3",
        "/srv/a key=1/store",
        "",
    ],
)
def test_what_holds_no_secret_is_shown_as_it_is(url: str) -> None:
    assert masked(url) == url


def test_every_url_of_a_text_is_masked() -> None:
    text = "tried redis://:pw@one/0\nand redis://:pw@two/0, mail ana@example.org"
    assert masked(text) == "tried redis://:***@one/0\nand redis://:***@two/0, mail ana@example.org"
