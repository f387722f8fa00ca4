"""Files that are written whole or not at all, with the permissions that the umask gives."""

import errno
import os
import stat

import pytest
import torch

from fisherbo.errors import InvalidInputError, StorageError
from fisherbo.files import replacing, require_writable
from fisherbo.training.checkpoint import save_atomically
from fisherbo.visualization import page

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0  # may write everywhere


def write(path, data=b"new"):
    with replacing(path) as file:
        file.write(data)


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize(
    "writer",
    [
        write,
        lambda path: save_atomically({"weights": torch.zeros(2)}, path),
        lambda path: page.write("<p>", path),
    ],
    ids=["bytes", "checkpoint", "page"],
)
def test_permissions_are_those_of_a_new_file(tmp_path, umask, writer):
    (tmp_path / "plain").touch()
    path = tmp_path / "new" / "file"
    for _ in range(2):
        writer(path)
        assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
        path.chmod(0o600)  # as earlier versions left them
    assert os.listdir(path.parent) == ["file"]


def test_a_block_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "file"
    write(path, b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    with pytest.raises(StorageError, match=r"file cannot be written: No space.*; choose another"):
        with replacing(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    write(link)
    assert link.is_symlink() and real.read_bytes() == b"new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    require_writable(pipe, "--save")
    write(pipe)
    assert os.read(reader, 10) == b"new"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(
    "name",
    [
        "folder",
        "file/below",
        "x" * 300,
        pytest.param("/proc/x.pt", marks=pytest.mark.skipif(not os.path.isdir("/proc"), reason="")),
        pytest.param("read-only", marks=pytest.mark.skipif(ROOT, reason="root may write")),
    ],
)
def test_places_that_cannot_be_written(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "read-only").touch(0o444)
    before = sorted(os.listdir(tmp_path))
    path = tmp_path / name
    with pytest.raises(InvalidInputError, match=r"^--save .* cannot be written: .*; choose"):
        require_writable(path, "--save")
    with pytest.raises(StorageError, match="cannot be written"):
        write(path)
    assert sorted(os.listdir(tmp_path)) == before


def test_the_check_makes_nothing(tmp_path):
    require_writable(tmp_path / "a" / "b" / "policy.pt", "--save")
    assert os.listdir(tmp_path) == []
