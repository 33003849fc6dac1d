"""Who this process is among those that torchrun started, by the environment."""

import pytest

from headstart import processes


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_alone_this_is_the_main_process_of_one():
    assert (processes.count(), processes.rank(), processes.is_main()) == (1, 0, True)


@pytest.mark.parametrize(("rank", "is_main"), [("0", True), ("1", False), ("3", False)])
def test_torchruns_variables_say_who_this_is(monkeypatch, rank, is_main):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", rank)
    assert (processes.count(), processes.rank(), processes.is_main()) == (4, int(rank), is_main)


def test_alone_a_block_simply_runs_and_its_errors_pass():
    ran = []
    with processes.main_first("cpu"):
        ran.append(True)
    assert ran == [True]
    with pytest.raises(RuntimeError, match="mine"), processes.main_first("cpu"):
        raise RuntimeError("mine")
