"""List folders: their files and subfolders, errors, and files to ignore."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rsna_lumbar.runtime.core.reasons import Reason, Skip
from rsna_lumbar.runtime.dicom.archives import dicom_members, is_zip
from rsna_lumbar.runtime.studies.study import natural_key, relative


@dataclass(frozen=True, slots=True)
class Listing:
    """The content of one folder."""

    folders: list[str] = field(default_factory=list)  # names
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Walk:
    """A data folder to walk through, without the files that the run itself writes there.

    Both methods take ``skips``, and add to it what cannot be listed.
    """

    data: Path
    own_files: frozenset[Path] = frozenset()  # resolved; only a few
    starts: tuple[Path, ...] = ()  # folders below the data folder, or only the data folder

    def listing(self, folder: Path, skips: list[Skip]) -> Listing:
        """The content of a folder; empty if it is not a folder."""
        found = Listing()
        try:
            for entry in os.scandir(folder):
                if _is_folder(entry):
                    found.folders.append(entry.name)
                elif not self._is_own(file := Path(entry.path)):
                    found.files.append(file)
        except (FileNotFoundError, NotADirectoryError):
            return found
        except OSError as error:
            skips.append(self._unreadable(folder, error))
        return found

    def below(self, folder: Path, skips: list[Skip]) -> Iterator[Path]:
        """Every file below a folder; no folder is entered twice.

        Links that lead out of the named data are followed; links to targets inside it are not,
        because these are reached anyway. A zip archive that contains DICOM files is walked through
        like a folder; its members have paths below its own, which `open_dicom` reads. If
        ``folder`` is a file, the file or its members are yielded.
        """
        seen: set[tuple[int, int]] = set()
        waiting = [folder] if self._leads_on(folder) else []
        while waiting:
            name = waiting.pop()
            try:
                found = os.stat(name)
            except OSError as error:
                skips.append(self._unreadable(name, error))
                continue
            if stat.S_ISREG(found.st_mode):
                yield from _file_or_members(name)
            elif (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                listing = self.listing(name, skips)
                waiting += sorted(
                    (name / inner for inner in listing.folders if self._leads_on(name / inner)),
                    key=lambda path: natural_key(path.name),
                    reverse=True,
                )
                for file in listing.files:
                    yield from _file_or_members(file)

    def _leads_on(self, folder: Path) -> bool:
        named = self.starts or (self.data,)
        if folder in named or not folder.is_symlink():
            return True
        there = folder.resolve()
        return not any(
            there.is_relative_to(start) or start.is_relative_to(there)
            for start in (one.resolve() for one in named)
        )

    def _is_own(self, file: Path) -> bool:
        alike = any(file.name == own.name for own in self.own_files)
        return alike and file.resolve() in self.own_files

    def _unreadable(self, folder: Path, error: OSError) -> Skip:
        return Skip(Reason.UNREADABLE, relative(folder, self.data), error.strerror or "")


def _file_or_members(file: Path) -> tuple[Path, ...]:
    return (is_zip(file) and dicom_members(file)) or (file,)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Also False for a circular link: opening it will report the error."""
    try:
        return entry.is_dir()
    except OSError:
        return False
