"""The output files of a run: written aside, journaled chunk by chunk, published together.

    .<name>.part       an unfinished output, one for each of them
    .<name>.journal    beside the submission: the run's identity; then a line for each finished
                       chunk: its studies, the length of each output after it, and its counts; the
                       last line says that everything is written

A chunk's line is added when its rows are on the disk, and the outputs are renamed when the last
line is. So if a run is killed at any moment, the old output or the new one is in place. A resumed
run continues after the last chunk in the journal, and writes the same bytes as an uninterrupted
run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.core.errors import DataError, UsageError
from rsna_lumbar.runtime.run.journal import Journal
from rsna_lumbar.runtime.system.atomic_files import AsideFile, sync_folder
from rsna_lumbar.runtime.system.closing import Closing

SUBMISSION, EVIDENCE = "--output", "--evidence"  # names of outputs
RUN_MANIFEST, KEY = "run manifest", "key of --ids hash"
RUN, CHUNK, FINISHED = "run", "chunk", "finished"  # kinds of entries
ENTRIES = {
    RUN: {"kind", "identity", "started"},
    CHUNK: {"kind", "studies", "batch_size", "note", "lengths", "sha256", "record"},
    FINISHED: {"kind", "sha256", "exit_code"},
}
BLOCK_BYTES = 2**20
Identity = Mapping[str, Any]


class Results(Closing):
    """The outputs of one run; a context manager.

    Args:
        targets: name of an output -> its path, the submission first.
        private: names of outputs that only their user may read.
        resume: continue an interrupted run, if there is one.

    Raises:
        UsageError: there is an interrupted run, and ``resume`` is not set.
        DataError: the files of an interrupted run were changed.
        OSError: an output cannot be written, or another run is writing it.
    """

    def __init__(
        self, targets: Mapping[str, Path], *, private: Collection[str] = (), resume: bool
    ) -> None:
        self.targets = targets
        self.resumed = False
        with ExitStack() as undo:
            self._files = {}
            for name, path in targets.items():
                self._files[name] = AsideFile(path, private=name in private)
                undo.callback(self._files[name].let_go)
            submission = next(iter(targets.values()))
            self._journal = Journal(journal_of(submission))
            undo.callback(self._journal.close)
            if not all(map(_is_entry, self._journal.entries)):
                raise DataError(
                    f"{self.journal_path} is no journal of this version; remove it to start again"
                )
            if self._journal.entries[1:] and not resume:
                raise UsageError(
                    f"an interrupted run left {self.done} studies of {submission} done: go on with "
                    f"--resume, or remove {self._journal.path} to start again"
                )
            if self.finished is None:
                self._cut_back()
            undo.pop_all()

    @property
    def journal_path(self) -> Path:
        """While this file exists, no new run can start."""
        return self._journal.path

    def take_records(self) -> Iterator[Mapping[str, Any]]:
        """Yield the record of each finished chunk, once; afterwards they are only on the disk."""
        for one in self._journal.entries:
            if one["kind"] == CHUNK:
                yield one.pop("record")

    @property
    def chunks(self) -> list[Mapping[str, Any]]:
        """The finished chunks, in order."""
        return [one for one in self._journal.entries if one["kind"] == CHUNK]

    @property
    def done(self) -> int:
        """Studies of the finished chunks."""
        return sum(len(one["studies"]) for one in self.chunks)

    @property
    def batch_size(self) -> int | None:
        """The batch size at the end of the last finished chunk."""
        return int(self.chunks[-1]["batch_size"]) if self.chunks else None

    @property
    def finished(self) -> Mapping[str, Any] | None:
        """The last entry, if everything was written but not everything was published."""
        last = self._journal.entries[-1:]
        return last[0] if last and last[0]["kind"] == FINISHED else None

    @property
    def own_files(self) -> set[Path]:
        """Resolved paths of all files that this run writes; these are not inputs."""
        asides = (file.aside for file in self._files.values())
        return {path.resolve() for path in (*self.targets.values(), *asides, self._journal.path)}

    def kept(self, name: str) -> str:
        """The part of an output that belongs to finished chunks."""
        return self._files[name].aside.read_bytes()[: self._lengths[name]].decode()

    @property
    def note(self) -> str:
        """The note of the last finished chunk."""
        return str(self.chunks[-1]["note"]) if self.chunks else ""

    @property
    def started(self) -> str | None:
        """When the interrupted run began; None if there is none."""
        return str(self._journal.entries[0]["started"]) if self._journal.entries else None

    def begin(self, identity: Identity, started: str) -> None:
        """Declare this run's identity: everything that its bytes depend on, except the files.

        Raises:
            UsageError: the interrupted run was a different one.
        """
        if not self._journal.entries:
            for folder in {path.parent for path in self.targets.values()}:
                sync_folder(folder)
            self._journal.add({"kind": RUN, "identity": identity, "started": started})
            return
        self.require(identity)

    def require(self, identity: Identity) -> None:
        """Check that the interrupted run agrees with these parts of the identity.

        Raises:
            UsageError: it differs in one of them.
        """
        if not self._journal.entries:
            return
        before = self._journal.entries[0]["identity"]
        for name in identity:
            if before.get(name) != identity.get(name):
                raise UsageError(
                    f"--resume: {name} changed since the run was interrupted, from "
                    f"{before.get(name)} to {identity.get(name)}; run it as before, or remove "
                    f"{self._journal.path} to start again"
                )

    def write(self, name: str, text: str) -> None:
        """Append to an output, as UTF-8; invalid characters of names are written as escapes."""
        content = text.encode(errors="backslashreplace")
        self._files[name].write(content)
        self._hashes[name].update(content)
        self._lengths[name] += len(content)

    def end_chunk(
        self, studies: list[tuple[str, str]], batch_size: int, note: str, record: Mapping[str, Any]
    ) -> None:
        """End a chunk: keep everything that was written so far.

        Args:
            studies: id and stamp of each study since the last chunk.
            batch_size, note: of the open models; step 5 of ``inference/scheduler.py``.
            record: what :meth:`take_records` will yield for this chunk.
        """
        for file in self._files.values():
            file.sync()
        self._journal.add(
            {
                "kind": CHUNK,
                "studies": [list(one) for one in studies],
                "batch_size": batch_size,
                "note": note,
                "lengths": dict(self._lengths),
                "sha256": self._digests(),
                "record": record,
            }
        )
        # it is on the disk; in memory it would only accumulate
        self._journal.entries[-1].pop("record")

    def publish(self, exit_code: int) -> None:
        """Replace the old outputs by the new ones, the submission last."""
        for file in self._files.values():
            file.sync()
        self._journal.add({"kind": FINISHED, "sha256": self._digests(), "exit_code": exit_code})
        self._publish_all()

    def publish_alone(self, name: str) -> None:
        """Replace one output; discard the content of the others, and keep their old files."""
        self._files[name].sync()
        self._files[name].publish()
        self.abandon()

    def publish_again(self) -> int:
        """Finish publishing for a run that was killed while publishing; return its exit code."""
        assert self.finished is not None
        code = int(self.finished["exit_code"])
        self._publish_all()
        return code

    def abandon(self) -> None:
        """Remove everything that was written aside, including finished chunks."""
        self._journal.remove()
        for file in self._files.values():
            file.discard()

    def close(self) -> None:
        """Keep only what finished chunks need."""
        if not self._journal.entries[1:]:
            self.abandon()  # also if everything was published: then nothing is left aside
        self._journal.close()
        for file in self._files.values():
            file.let_go()

    def _cut_back(self) -> None:
        """Cut the outputs to their length after the last finished chunk."""
        chunks = self.chunks
        last: Mapping[str, Any] = chunks[-1] if chunks else {}
        self._lengths = {name: last.get("lengths", {}).get(name, 0) for name in self._files}
        self._hashes = {}
        for name, file in self._files.items():
            length = self._lengths[name]
            self._hashes[name] = _hash(file.descriptor, length)
            expected = last.get("sha256", {}).get(name)
            if expected is not None and self._hashes[name].hexdigest() != expected:
                raise self._changed(file)
            file.cut(length)
        if not chunks:
            self._journal.clear()
        self.resumed = bool(chunks)

    def _publish_all(self) -> None:
        assert self.finished is not None
        for name, file in reversed(self._files.items()):
            expected = self.finished["sha256"][name]
            if _hash(file.descriptor).hexdigest() == expected:
                file.publish()
            elif _hash_of(file.path) == expected:
                file.discard()  # it was already published
            else:
                raise self._changed(file)
        self._journal.remove()

    def _changed(self, file: AsideFile) -> DataError:
        return DataError(
            f"{file.aside} is not what the interrupted run had left; remove "
            f"{self._journal.path} to start again"
        )

    def _digests(self) -> dict[str, str]:
        return {name: one.hexdigest() for name, one in self._hashes.items()}


def journal_of(submission: Path) -> Path:
    return submission.with_name(f".{submission.name}.journal")


def _is_entry(content: object) -> bool:
    """Whether it has the form of an entry; the journal guarantees that nobody changed it."""
    kind = content.get("kind") if isinstance(content, dict) else None
    return isinstance(kind, str) and set(content) == ENTRIES.get(kind)  # type: ignore[call-overload]


def _hash(descriptor: int, length: int | None = None) -> Any:
    """SHA-256 of the first ``length`` bytes of an open file, or of the whole file."""
    found = hashlib.sha256()
    os.lseek(descriptor, 0, os.SEEK_SET)
    rest = os.fstat(descriptor).st_size if length is None else length
    while rest and (block := os.read(descriptor, min(rest, BLOCK_BYTES))):
        found.update(block)
        rest -= len(block)
    return found


def _hash_of(path: Path) -> str | None:
    """None if the file does not exist."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None
    try:
        return str(_hash(descriptor).hexdigest())
    finally:
        os.close(descriptor)
