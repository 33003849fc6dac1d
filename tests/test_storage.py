import errno

import pytest

from headstart import storage
from headstart.errors import StorageError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with pytest.raises(RuntimeError), storage.written_atomically(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert not path.exists()
    assert list(path.parent.iterdir()) == []
    with storage.written_atomically(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_replaced_only_by_a_complete_one(tmp_path):
    folder = tmp_path / "run"
    with storage.folder_written_atomically(folder) as temporary:
        (temporary / "a").write_text("first")
    with pytest.raises(RuntimeError), storage.folder_written_atomically(folder) as temporary:
        (temporary / "a").write_text("second")
        raise RuntimeError
    assert (folder / "a").read_text() == "first"
    with storage.folder_written_atomically(folder) as temporary:
        (temporary / "b").write_text("third")
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_moved_aside_by_a_killed_process_is_put_back(tmp_path):
    former = tmp_path / ".run.former"
    former.mkdir()
    (former / "a").write_text("first")
    storage.recover(tmp_path / "run")
    assert (tmp_path / "run" / "a").read_text() == "first"
    assert not former.exists()


def test_what_killed_processes_left_is_removed_and_the_living_are_left_alone(tmp_path):
    dead, alive = tmp_path / ".run.new-999999999", tmp_path / ".run.new-1"
    dead.mkdir()
    alive.mkdir()
    with storage.folder_written_atomically(tmp_path / "run"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "run"]


def test_the_first_of_two_writers_wins(tmp_path):
    with storage.folder_written_once(tmp_path / "kept") as mine:
        (mine / "a").write_text("mine")
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "a").write_text("theirs")
    assert (tmp_path / "kept" / "a").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_finished_replacement_only_leaves_rubbish_to_remove(tmp_path):
    for name in (".run.former", "run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    storage.recover(tmp_path / "run")
    assert (tmp_path / "run" / "a").read_text() == "run"
    assert not (tmp_path / ".run.former").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EACCES, "cannot write"), (errno.EROFS, "cannot write")],
)
def test_a_refusal_to_write_is_said_clearly(tmp_path, number, words):
    with pytest.raises(StorageError, match=words), storage.clear_storage_errors(tmp_path):
        raise OSError(number, "as the system says it")


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(OSError, match="odd"), storage.clear_storage_errors(tmp_path):
        raise OSError(errno.EIO, "odd")


def test_the_cache_folder_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "here"))
    assert storage.cache_folder() == tmp_path / "here"
    monkeypatch.delenv("HEADSTART_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert storage.cache_folder() == tmp_path / "headstart"


def test_clearing_the_cache_leaves_what_is_not_ours(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "x.sqlite").write_bytes(bytes(100))
    (tmp_path / "letters.txt").write_text("mine")
    assert storage.clear_cache() == 100
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]
