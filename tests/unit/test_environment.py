"""The record of where a job was trained."""

from pathlib import Path

import pytest

from jobs.environment import commit, installed


@pytest.mark.parametrize(
    "files",
    [
        {"HEAD": "0123abcd\n"},
        {"HEAD": "ref: refs/heads/main\n", "refs/heads/main": "0123abcd\n"},
        {
            "HEAD": "ref: refs/heads/main\n",
            "packed-refs": "# pack-refs\nffff refs/heads/other\n0123abcd refs/heads/main\n",
        },
    ],
)
def test_the_commit_of_a_checkout_is_read_without_git(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = tmp_path / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert commit(tmp_path) == "0123abcd"


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    (tmp_path / ".git").write_text("gitdir: elsewhere")
    assert commit(tmp_path) is None


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert installed("torch")
    assert installed("no-such-package") is None
