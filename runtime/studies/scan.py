"""Looking into folders: what they hold, what cannot be listed, and what is none of the inputs."""

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
    """What one folder holds."""

    folders: list[str] = field(default_factory=list)  # names
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Walk:
    """A data folder to look into; what the run itself writes there is not seen.

    Both ways take ``skips``, to which they add what cannot be listed.
    """

    data: Path
    own_files: frozenset[Path] = frozenset()  # resolved; a handful
    starts: tuple[Path, ...] = ()  # below the data folder, or it alone

    def listing(self, folder: Path, skips: list[Skip]) -> Listing:
        """What a folder holds; nothing where it is none."""
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
        """Every file below a folder, no folder entered twice.

        Links are followed out of what was named; what lies inside that is met on its own way.
        A zip archive that holds DICOM files is gone through like a folder; its members have paths
        below its own, which `open_dicom` reads. Where ``folder`` is a file, it is yielded, or its
        members are.
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
    """False also for a link that leads round in a circle: whoever opens it will say so."""
    try:
        return entry.is_dir()
    except OSError:
        return False
