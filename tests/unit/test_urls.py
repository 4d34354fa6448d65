"""URLs are shown without what is secret in them."""

import pytest

from jobs.urls import conceal, given, masked


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


def test_what_a_driver_quotes_of_a_url_alone_is_hidden() -> None:
    conceal("redis://yard:k33p%40me@queue/0?ssl_password=0ther-one")
    told = masked("'k33p@me' is no port, nor is k33p%40me; 0ther-one")
    assert told == "'***' is no port, nor is ***; ***"


def test_a_password_that_is_a_name_is_hidden_in_urls_only() -> None:
    conceal("postgresql://gridyard:gridyard@db/yard")
    assert masked("gridyard: no file gridyard.db") == "gridyard: no file gridyard.db"
    assert masked("postgresql://gridyard:gridyard@db/yard") == "postgresql://gridyard:***@db/yard"


@pytest.mark.parametrize("text", ["redis:/:k33p@queue", "k33p@queue", "x:k33p me@ana@queue"])
def test_what_was_given_as_a_url_and_is_none_is_shown_from_its_last_at(text: str) -> None:
    assert given(text) == "***@queue"
