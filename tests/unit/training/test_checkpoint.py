from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import make
from wrn.errors import CheckpointError
from wrn.training import checkpoint as module
from wrn.training.checkpoint import Checkpoint, CheckpointStore, read_checkpoint, step_of, write_checkpoint


def same(left: Checkpoint, right: Checkpoint) -> bool:
    return (
        left.state == right.state
        and left.tensors.keys() == right.tensors.keys()
        and all(torch.equal(tensor, right.tensors[name]) for name, tensor in left.tensors.items())
    )


def test_round_trip_is_exact(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "step-00000007.safetensors", make(7))
    assert same(read_checkpoint(tmp_path / "step-00000007.safetensors"), make(7))


def test_the_checksum_is_one_that_sha256sum_reads(tmp_path: Path) -> None:
    path = tmp_path / "step-00000007.safetensors"
    write_checkpoint(path, make(7))
    line = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    assert path.with_name(path.name + ".sha256").read_text() == line


def test_keeps_the_newest_and_leaves_nothing_else(store: CheckpointStore) -> None:
    for step in (1, 2, 3, 4):
        store.save(make(step))
    store.wait()
    names = sorted(path.name for path in store.directory.iterdir())
    assert [name for name in names if not name.endswith("sha256")] == [
        "step-00000003.safetensors",
        "step-00000004.safetensors",
    ]
    assert len(names) == 4
    found = store.newest()
    assert found is not None
    assert same(found[1], make(4))


def test_what_changes_after_save_is_not_saved(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make(1)
    monkeypatch.setattr(module, "write_checkpoint", _after_a_change(checkpoint, module.write_checkpoint))
    store.save(checkpoint, wait=True)
    found = store.newest()
    assert found is not None
    assert same(found[1], make(1))


def _after_a_change(checkpoint: Checkpoint, write):  # type: ignore[no-untyped-def]
    def changed(path: Path, snapshot: Checkpoint) -> None:
        checkpoint.tensors["model/w"].zero_()
        checkpoint.state["history"][0]["loss"] = 9.0
        checkpoint.state["history"].append({"loss": 0.1, "step": 2})
        write(path, snapshot)

    return changed


def test_copies_come_from_a_gpu_on_a_stream_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for CUDA streams that records what happens on which stream, in order."""
    done: list[tuple[str, str]] = []
    current = "training's"

    class Stream:
        def __init__(self, device: torch.device) -> None:
            assert device == torch.device("cuda:1")

        def record_event(self) -> str:
            done.append((current, "event"))
            return "event"

        def wait_event(self, event: str) -> None:
            done.append(("own", f"wait for {event}"))

    class OnGpu(torch.Tensor):
        is_cuda = True
        device = torch.device("cuda:1")

        def clone(self, **keys: Any) -> Any:
            done.append((current, "clone"))
            return super().clone(**keys)

        def cpu(self) -> Any:  # type: ignore[override]
            done.append((current, "cpu"))
            return self.as_subclass(torch.Tensor)

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        nonlocal current
        current = "own"
        yield
        current = "training's"

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", on)
    fetch = module._copies({"a": torch.ones(2).as_subclass(OnGpu), "b": torch.zeros(2).as_subclass(OnGpu)})
    host = fetch()
    assert {name: tensor.tolist() for name, tensor in host.items()} == {"a": [1, 1], "b": [0, 0]}
    assert done == [
        *[("training's", "clone")] * 2,
        ("training's", "event"),
        ("own", "wait for event"),
        *[("own", "cpu")] * 2,
    ]


@pytest.mark.gpu
def test_a_write_does_not_wait_for_queued_gpu_work(store: CheckpointStore) -> None:
    weights = torch.ones(1000, device="cuda")
    store.save(Checkpoint({"w": weights}, {"step": 1}))
    store.wait()  # CUDA's one-off setup is done
    store.save(Checkpoint({"w": weights, "twice": 2 * weights}, {"step": 2}))
    torch.cuda._sleep(10**10)  # cycles: some seconds
    weights.zero_()
    end = torch.cuda.current_stream().record_event()
    store.wait()
    assert not end.query()
    saved = read_checkpoint(store.path_of(2)).tensors
    assert torch.equal(saved["w"], torch.ones(1000))
    assert torch.equal(saved["twice"], torch.full((1000,), 2.0))


def test_200_cuts_and_200_flipped_bits_fall_back_to_the_previous(store: CheckpointStore, notes: list[str]) -> None:
    for step in (1, 2):
        store.save(make(step), wait=True)
    newest = store.path_of(2)
    whole = newest.read_bytes()
    rng = random.Random(0)
    for kind in ["cut"] * 200 + ["flip"] * 200:
        position = rng.randrange(len(whole))
        flipped = bytes([whole[position] ^ 1 << rng.randrange(8)])
        newest.write_bytes(whole[:position] if kind == "cut" else whole[:position] + flipped + whole[position + 1 :])
        notes.clear()
        found = store.newest()
        assert found is not None
        assert same(found[1], make(1))
        assert len(notes) == 1
        assert newest.name in notes[0]
    newest.write_bytes(whole)
    found = store.newest()
    assert found is not None
    assert same(found[1], make(2))


def test_half_synced_and_foreign_files(store: CheckpointStore, notes: list[str]) -> None:
    store.save(make(1), wait=True)
    store.save(make(2), wait=True)
    store.path_of(2).with_name(store.path_of(2).name + ".sha256").unlink()
    (store.directory / "step-00000009.safetensors").write_bytes(b"stranger")
    digest = hashlib.sha256(b"stranger").hexdigest()
    (store.directory / "step-00000009.safetensors.sha256").write_text(f"{digest}  x\n")
    (store.directory / ".step-00000010.safetensors.tmp").write_bytes(b"half")
    (store.directory / "notes.txt").write_text("hello")
    found = store.newest()
    assert found is not None
    assert same(found[1], make(1))
    assert "step-00000009" in notes[0]
    assert "not a wrn checkpoint" in notes[0]
    assert "not completely written" in notes[1]


@pytest.mark.parametrize("state", [[], "step", {"name": "x"}, {"step": "7"}], ids=str)
def test_a_malformed_state(store: CheckpointStore, notes: list[str], state: Any) -> None:
    write_checkpoint(store.path_of(7), Checkpoint({}, state))
    assert store.newest() is None
    assert "no step number" in notes[0]


def test_what_was_just_written_stays(store: CheckpointStore) -> None:
    for step in (900, 1000, 10):  # by two unrelated runs
        store.save(make(step), wait=True)
    assert [step_of(path) for path in store.paths()] == [1000, 10]


def test_a_damaged_one_does_not_count_towards_keep(store: CheckpointStore) -> None:
    for step in (10, 20):
        store.save(make(step), wait=True)
    store.path_of(20).write_bytes(b"damaged")
    found = store.newest()
    assert found is not None
    store.set_aside(beyond=found[1].step, origin=found[0])
    for step in (12, 14):
        store.save(make(step), wait=True)
        assert [read_checkpoint(path).step for path in store.paths()] == [step, step - 2]


def test_an_empty_or_missing_folder_has_no_checkpoint(store: CheckpointStore) -> None:
    assert store.newest() is None
    store.directory.mkdir()
    assert store.newest() is None


def test_a_full_disk_leaves_the_previous_one_valid(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(make(1), wait=True)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_tensors", full)
    with pytest.raises(CheckpointError, match=r"No space left.*free space.*Earlier checkpoints are untouched"):
        store.save(make(2), wait=True)
    found = store.newest()
    assert found is not None
    assert same(found[1], make(1))
    assert not list(store.directory.glob(".*"))


def test_a_failed_background_write_is_raised_at_the_next_save(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise CheckpointError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_checkpoint", refuse)
        store.save(make(1))
        with pytest.raises(CheckpointError, match="refused"):
            store.save(make(2))
        store.save(make(3))
    store.save(make(4), wait=True)  # makes up for the earlier failure, as when asked to stop
    found = store.newest()
    assert found is not None
    assert found[1].step == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(store: CheckpointStore) -> None:
    store.directory.mkdir()
    store.directory.chmod(0o500)
    with pytest.raises(CheckpointError, match="cannot be written"):
        store.save(make(1), wait=True)


def test_both_files_are_on_disk_before_they_get_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a rename were on disk but the contents not, a power cut would leave two empty files."""
    done: list[tuple[str, int]] = []
    rename, flush = Path.replace, os.fsync

    def renamed(path: Path, target: Path) -> Path:
        done.append(("renamed", path.stat().st_ino))
        return rename(path, target)

    def flushed(descriptor: int) -> None:
        done.append(("flushed", os.fstat(descriptor).st_ino))
        flush(descriptor)

    monkeypatch.setattr(Path, "replace", renamed)
    monkeypatch.setattr(os, "fsync", flushed)
    path = tmp_path / "step-00000007.safetensors"
    write_checkpoint(path, make(7))
    content, checksum, folder = (
        place.stat().st_ino for place in (path, path.with_name(path.name + ".sha256"), tmp_path)
    )
    assert set(done[:2]) == {("flushed", content), ("flushed", checksum)}
    assert done[2:] == [("renamed", content), ("renamed", checksum), ("flushed", folder)]


def test_write_seconds_is_known_once_the_write_has_ended(store: CheckpointStore) -> None:
    assert store.write_seconds is None
    store.save(make(1), wait=True)
    assert store.write_seconds is not None
    assert store.write_seconds > 0
