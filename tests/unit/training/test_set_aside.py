from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints import make
from wrn.errors import CheckpointError
from wrn.training.checkpoint import ASIDE, Checkpoint, CheckpointStore, step_of, write_checkpoint


def test_a_run_that_starts_over_keeps_its_own_checkpoints(store: CheckpointStore, notes: list[str]) -> None:
    for step in (900, 1000):
        store.save(make(step), wait=True)
    store.set_aside(beyond=0, origin=None)
    for step in (10, 20, 30):
        store.save(make(step), wait=True)
    assert [step_of(path) for path in store.paths()] == [30, 20]
    aside = CheckpointStore(store.directory / f"{ASIDE}-1", 2, notes.append)
    assert notes == [
        "set aside, as this run does not resume from them: step-00001000.safetensors, step-00000900.safetensors in "
        f"{aside.directory}"
    ]
    assert [step_of(path) for path in aside.paths()] == [1000, 900], "nothing is lost"
    assert aside.newest() is not None


def test_what_was_set_aside_before_stays(store: CheckpointStore, notes: list[str]) -> None:
    """Runs of the same length end with checkpoints of the same name."""
    for name in ("first", "second", "third"):
        write_checkpoint(store.path_of(10), Checkpoint({}, {"step": 10, "name": name}))
        store.set_aside(beyond=0, origin=None)
    found = [CheckpointStore(store.directory / f"{ASIDE}-{number}", 2, notes.append).newest() for number in (1, 2, 3)]
    assert [pair and pair[1].state["name"] for pair in found] == ["first", "second", "third"]


def test_a_failure_to_set_aside_is_an_error(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(make(10), wait=True)

    def refuse(*arguments: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(CheckpointError, match=r"cannot set checkpoints aside .*give another --checkpoint-dir"):
        store.set_aside(beyond=5, origin=None)


def test_half_written_files_of_a_killed_process_are_removed(store: CheckpointStore) -> None:
    store.save(make(1), wait=True)
    for name in (".step-00000002.safetensors.tmp", ".step-00000002.safetensors.sha256.tmp"):
        (store.directory / name).write_bytes(b"half")
    newest = store.newest()
    assert newest is not None
    store.set_aside(beyond=1, origin=newest[0])
    assert sorted(path.name for path in store.directory.iterdir()) == [
        *("step-00000001.safetensors", "step-00000001.safetensors.sha256"),
    ]


def without_checksum(store: CheckpointStore, *steps: int) -> list[Path]:
    paths = [store.path_of(step) for step in steps]
    for path in paths:
        path.with_name(path.name + ".sha256").unlink()
    return paths


def test_files_without_a_checksum_are_removed_when_a_run_resumes(store: CheckpointStore) -> None:
    """A kill leaves these while removing an old checkpoint, or between the renames of a new one."""
    (store.directory / f"{ASIDE}-1").mkdir(parents=True)
    for step in (1, 2, 3):
        write_checkpoint(store.path_of(step), make(step))
    without_checksum(store, 1, 3)
    newest = store.newest()
    assert newest is not None
    store.set_aside(beyond=2, origin=newest[0])
    names = ["step-00000002.safetensors", "step-00000002.safetensors.sha256"]
    assert sorted(path.name for path in store.directory.iterdir()) == names


@pytest.mark.parametrize("elsewhere", [False, True])
def test_files_without_a_checksum_are_kept_if_no_run_resumes_here(
    store: CheckpointStore, tmp_path: Path, elsewhere: bool
) -> None:
    store.save(make(3), wait=True)
    (path,) = without_checksum(store, 3)
    content = path.read_bytes()
    assert store.newest() is None
    store.set_aside(beyond=5, origin=tmp_path / "other/step-00000005.safetensors" if elsewhere else None)
    assert (store.directory / f"{ASIDE}-1" / path.name).read_bytes() == content


@pytest.mark.parametrize("moves", range(4))
def test_a_kill_while_checkpoints_are_set_aside_loses_none(
    store: CheckpointStore, moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (900, 1000):
        store.save(make(step), wait=True)
    really, left = Path.replace, [None] * moves

    def killed(self: Path, target: Path) -> Path:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return really(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            store.set_aside(beyond=0, origin=None)
    found = store.newest()
    store.set_aside(beyond=0 if found is None else found[1].step, origin=None if found is None else found[0])
    files = sorted(path.name for path in store.directory.rglob("step-*.safetensors"))
    assert files == ["step-00000900.safetensors", "step-00001000.safetensors"]


def test_what_cannot_be_removed_is_reported(
    store: CheckpointStore, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(make(1), wait=True)
    half = store.directory / ".step-00000002.safetensors.tmp"
    half.write_bytes(b"half")

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    store.set_aside(beyond=1, origin=store.path_of(1))
    assert notes == [f"{half}: is incomplete and cannot be removed (Operation not permitted)"]


def test_a_folder_by_another_name_is_the_same_folder(store: CheckpointStore, notes: list[str], tmp_path: Path) -> None:
    """As with `--resume` through a link: the checkpoint that the run resumes from is its own, and stays."""
    store.save(make(10), wait=True)
    (tmp_path / "link").symlink_to(store.directory)
    store.set_aside(beyond=10, origin=tmp_path / "link" / store.path_of(10).name)
    assert store.paths() == [store.path_of(10)]
    assert notes == []
