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

from wrn.errors import CheckpointError
from wrn.training import checkpoint as module
from wrn.training.checkpoint import ASIDE, Checkpoint, CheckpointStore, read_checkpoint, step_of, write_checkpoint


def make(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "model/w": torch.randn(4, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last),
        "model/n": torch.tensor(step),
        "meters": torch.tensor([float("inf"), 1.5], dtype=torch.float64),
    }
    return Checkpoint(tensors, {"step": step, "history": [{"loss": 0.1 + 0.2, "step": step}], "name": "ümlaut"})


def same(left: Checkpoint, right: Checkpoint) -> bool:
    return (
        left.state == right.state
        and left.tensors.keys() == right.tensors.keys()
        and all(torch.equal(tensor, right.tensors[name]) for name, tensor in left.tensors.items())
    )


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, notes: list[str]) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", 2, notes.append)


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
    """With a stand-in for CUDA's streams: who did what on which of them, in order."""
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

        def cpu(self) -> Any:
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
def test_a_write_does_not_wait_for_what_a_gpu_has_to_do(store: CheckpointStore) -> None:
    weights = torch.ones(1000, device="cuda")
    store.save(Checkpoint({"w": weights}, {"step": 1}))
    store.wait()  # what CUDA sets up once is set up
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


def test_half_synced_and_strange_files(store: CheckpointStore, notes: list[str]) -> None:
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
    assert "not a checkpoint of this program" in notes[0]
    assert "not written to the end" in notes[1]


@pytest.mark.parametrize("state", [[], "step", {"name": "x"}, {"step": "7"}], ids=str)
def test_a_state_that_is_no_state(store: CheckpointStore, notes: list[str], state: Any) -> None:
    write_checkpoint(store.path_of(7), Checkpoint({}, state))
    assert store.newest() is None
    assert "does not say of which step" in notes[0]


def test_a_run_that_starts_over_keeps_its_own_checkpoints(store: CheckpointStore, notes: list[str]) -> None:
    for step in (900, 1000):
        store.save(make(step), wait=True)
    store.set_aside(beyond=0, origin=None)
    for step in (10, 20, 30):
        store.save(make(step), wait=True)
    assert [step_of(path) for path in store.paths()] == [30, 20]
    aside = CheckpointStore(store.directory / f"{ASIDE}-1", 2, notes.append)
    assert notes == [
        "set aside, as this run does not go on from them: step-00001000.safetensors, step-00000900.safetensors in "
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


def test_what_was_just_written_stays(store: CheckpointStore) -> None:
    for step in (900, 1000, 10):  # by two runs that nobody told of each other
        store.save(make(step), wait=True)
    assert [step_of(path) for path in store.paths()] == [1000, 10]


def test_a_damaged_one_does_not_count_among_those_kept(store: CheckpointStore) -> None:
    for step in (10, 20):
        store.save(make(step), wait=True)
    store.path_of(20).write_bytes(b"damaged")
    found = store.newest()
    assert found is not None
    store.set_aside(beyond=found[1].step, origin=found[0])
    for step in (12, 14):
        store.save(make(step), wait=True)
        assert [read_checkpoint(path).step for path in store.paths()] == [step, step - 2]


def test_what_cannot_be_set_aside_is_told(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(make(10), wait=True)

    def refuse(*arguments: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(CheckpointError, match=r"nothing can be set aside .*give another --checkpoint-dir"):
        store.set_aside(beyond=5, origin=None)


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


def test_a_failed_background_write_is_told_at_the_next_save(
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
    store.save(make(4), wait=True)  # makes up for what failed before, as when asked to stop
    found = store.newest()
    assert found is not None
    assert found[1].step == 4


def test_what_a_killed_process_left_half_written_goes(store: CheckpointStore) -> None:
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


def test_files_without_a_checksum_go_once_a_run_goes_on_beside_them(store: CheckpointStore) -> None:
    """As a kill leaves them while an old one is removed, or between the renames of a new one."""
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
def test_files_without_a_checksum_stay_where_they_are_all_there_is(
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


def test_what_cannot_be_removed_is_told(
    store: CheckpointStore, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(make(1), wait=True)
    half = store.directory / ".step-00000002.safetensors.tmp"
    half.write_bytes(b"half")

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    store.set_aside(beyond=1, origin=store.path_of(1))
    assert notes == [f"{half}: was not written to the end and cannot be removed (Operation not permitted)"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(store: CheckpointStore) -> None:
    store.directory.mkdir()
    store.directory.chmod(0o500)
    with pytest.raises(CheckpointError, match="cannot be written"):
        store.save(make(1), wait=True)
