import re
from pathlib import Path

import pytest
from data import trees

from resolute.core.errors import DatasetError
from resolute.data.files import (
    defect,
    holds_any,
    is_folder,
    listed,
    read_text,
    scan,
    sub_folders,
)

NAME = re.compile(r"[0-9]+\.png")


@pytest.fixture
def forbidden(monkeypatch):
    """Take away the right to read, which a test run as root has everywhere."""

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    def forbid(method):
        monkeypatch.setattr(Path, method, deny)

    return forbid


def test_folders_without_the_right_to_read(tmp_path, forbidden):
    forbidden("iterdir")
    calls = (
        lambda: scan(tmp_path, NAME, example="1.png"),
        lambda: holds_any(tmp_path, NAME),
        lambda: sub_folders(tmp_path),
    )
    for call in calls:
        with pytest.raises(
            DatasetError, match="cannot be read: Permission denied; check its rights"
        ):
            call()


def test_a_folder_behind_a_forbidden_one(tmp_path, forbidden):
    forbidden("is_dir")
    with pytest.raises(DatasetError, match="cannot be read: Permission denied; check its rights"):
        is_folder(tmp_path / "inside")


def test_scan_sorts_and_counts(tmp_path):
    trees.draw_all(tmp_path, ["10.png", "9.png", "1.png"])
    assert [m.string for m in scan(tmp_path, NAME, example="1.png")] == ["1.png", "10.png", "9.png"]
    for letter in "abcde":
        (tmp_path / f"{letter}.png").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"5 files: a\.png, b\.png, c\.png, \.\.\. not named"):
        scan(tmp_path, NAME, example="1.png")


def test_sub_folders_are_sorted_and_hidden_ones_left_out(tmp_path):
    for name in ("b", "a", ".git", "__MACOSX"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "c").symlink_to(tmp_path / "a", target_is_directory=True)
    assert sub_folders(tmp_path) == ["a", "b", "c"]


def test_read_text(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("abcd")
    assert read_text(path, max_bytes=4) == "abcd"
    with pytest.raises(DatasetError, match="more than 3 bytes, which is no list of images"):
        read_text(path, max_bytes=3)


def test_defect(tmp_path):
    path = trees.draw(tmp_path / "1.png")
    assert not defect(path)
    assert defect(tmp_path) == "not a file"
    assert defect(tmp_path / "gone") == "not there"


def test_listed():
    assert listed(["a"]) == "1 file: a"
    assert listed("abcd") == "4 files: a, b, c, ..."
    assert listed(["\n\udcff"]).isascii()
