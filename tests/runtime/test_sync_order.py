"""The order in which a run changes files: what a line tells is on the disk before the line is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import SMALL_CHUNKS, run_here
from toys import write_clinical_study

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs /proc; no order was looked at"
)
STUDIES = 5  # in chunks of two: two lines, and one study that the last line alone tells of
OUTPUTS = ("scores/out.csv", "scores/out.run.json", "scores/out.ids.csv", "evidence/out.jsonl")
CHUNK, FINISHED = b'"kind": "chunk"', b'"kind": "finished"'


@dataclass(frozen=True)
class Change:
    """One call that changed a file, or had its changes on the disk."""

    call: str
    path: Path
    content: bytes = b""


@dataclass(frozen=True)
class Trail:
    """What a run did below a folder, in order."""

    folder: Path
    changes: list[Change]

    @property
    def targets(self) -> list[Path]:
        return [self.folder / name for name in OUTPUTS]

    @property
    def asides(self) -> list[Path]:
        return [path.with_name(f".{path.name}.part") for path in self.targets]

    @property
    def journal(self) -> Path:
        return self.folder / "scores" / ".out.csv.journal"

    def indices(self, call: str, path: Path) -> list[int]:
        return [i for i, one in enumerate(self.changes) if (one.call, one.path) == (call, path)]

    def lines(self, kind: bytes) -> list[int]:
        """Where lines of a kind begin in the journal."""
        written = self.indices("write", self.journal)
        return [index for index in written if kind in self.changes[index].content]


@contextmanager
def recorded(folder: Path) -> Iterator[list[Change]]:
    """Changes below a folder while the context is open."""
    changes: list[Change] = []

    def note(call: str, path: Path, content: bytes = b"") -> None:
        if path.is_relative_to(folder):
            changes.append(Change(call, path, content))

    def path_of(descriptor: int) -> Path:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}"))

    def opened(path: str | Path, flags: int, *mode: int, **options: int) -> int:
        if flags & os.O_CREAT:
            note("create", Path(path))
        return open_(path, flags, *mode, **options)

    def written(descriptor: int, content: bytes) -> int:
        count = write(descriptor, content)
        note("write", path_of(descriptor), bytes(content[:count]))
        return count

    def cut(descriptor: int, length: int) -> None:
        note("write", path_of(descriptor))
        ftruncate(descriptor, length)

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        note("fsync", path_of(descriptor))

    def replaced(source: Path, target: Path) -> None:
        note("replace", Path(target))
        replace(source, target)

    def removed(path: Path, missing_ok: bool = False) -> None:
        note("unlink", path)
        unlink(path, missing_ok)

    open_, write, ftruncate, fsync = os.open, os.write, os.ftruncate, os.fsync
    replace, unlink = os.replace, Path.unlink
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", opened)
        patch.setattr(os, "write", written)
        patch.setattr(os, "ftruncate", cut)
        patch.setattr(os, "fsync", synced)
        patch.setattr(os, "replace", replaced)
        patch.setattr(Path, "unlink", removed)
        yield changes


@pytest.fixture(scope="module")
def trail(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Trail:
    """Of a run in chunks of two studies, with outputs in two folders."""
    root = tmp_path_factory.mktemp("order") / "root"
    for number in range(STUDIES):
        write_clinical_study(root / "test_images", str(100 + number), seed=number, counts=(1, 1, 1))
    folder = tmp_path_factory.mktemp("out").resolve()
    for name in ("scores", "evidence"):
        (folder / name).mkdir()
    output, evidence = folder / OUTPUTS[0], folder / OUTPUTS[-1]
    words = (root, "--bundle", toy_bundle, "--output", output, "--evidence", evidence)
    words = (*words, "--ids", "hash", "--threads", "1", "--quiet")
    with recorded(folder) as changes:
        assert run_here(*words, sizes=SMALL_CHUNKS) == 0
    return Trail(folder, changes)


def test_every_output_and_line_was_seen(trail: Trail) -> None:
    """Else what the other tests say of them would hold of nothing."""
    assert [len(trail.lines(kind)) for kind in (CHUNK, FINISHED)] == [2, 1]
    for aside, target in zip(trail.asides, trail.targets, strict=True):
        contents = [trail.changes[index].content for index in trail.indices("write", aside)]
        assert b"".join(contents) == target.read_bytes() != b""
        assert len(trail.indices("replace", target)) == 1
    first, second = trail.lines(CHUNK)
    for aside in trail.asides:
        if "run.json" not in aside.name:  # which is written last
            assert any(first < index < second for index in trail.indices("write", aside))


def test_a_line_comes_after_all_that_it_tells_of_is_on_the_disk(trail: Trail) -> None:
    for line in (*trail.lines(CHUNK), *trail.lines(FINISHED)):
        for aside in trail.asides:
            written = [index for index in trail.indices("write", aside) if index < line]
            synced = [index for index in trail.indices("fsync", aside) if index < line]
            assert not written or (synced and synced[-1] > written[-1]), aside.name


def test_nothing_happens_before_a_line_is_on_the_disk(trail: Trail) -> None:
    lines = [one for one in trail.indices("write", trail.journal) if trail.changes[one].content]
    assert len(lines) >= 4
    for line in lines:
        following = (one for one in trail.changes[line + 1 :] if not is_more_of(one, trail.journal))
        assert next(following) == Change("fsync", trail.journal)


def is_more_of(change: Change, journal: Path) -> bool:
    """Whether it is the rest of a line that the system took in pieces."""
    return change == Change("write", journal, change.content) and b'"kind"' not in change.content


def test_outputs_are_renamed_after_the_last_line_the_submission_last(trail: Trail) -> None:
    (finished,) = trail.lines(FINISHED)
    renamed = [index for index, one in enumerate(trail.changes) if one.call == "replace"]
    synced = [index for index in trail.indices("fsync", trail.journal) if index > finished]
    assert synced and synced[0] < renamed[0]
    assert {trail.changes[index].path for index in renamed} == set(trail.targets)
    assert trail.changes[renamed[-1]].path == trail.targets[0]


def test_an_output_is_renamed_when_it_is_on_the_disk(trail: Trail) -> None:
    for aside, target in zip(trail.asides, trail.targets, strict=True):
        (renamed,) = trail.indices("replace", target)
        written, synced = trail.indices("write", aside), trail.indices("fsync", aside)
        assert written[-1] < renamed
        assert any(written[-1] < index < renamed for index in synced)


def test_files_are_in_their_folders_on_the_disk_before_the_first_line(trail: Trail) -> None:
    first = trail.lines(b'"kind": "run"')[0]
    for path in (*trail.asides, trail.journal):
        created = trail.indices("create", path)[0]
        synced = trail.indices("fsync", path.parent)
        assert any(created < index < first for index in synced), path.name


def test_the_journal_goes_when_all_renamings_are_on_the_disk(trail: Trail) -> None:
    (gone,) = trail.indices("unlink", trail.journal)
    for target in trail.targets:
        (renamed,) = trail.indices("replace", target)
        synced = trail.indices("fsync", target.parent)
        assert any(renamed < index < gone for index in synced), target.name
    assert trail.indices("fsync", trail.journal.parent)[-1] > gone
