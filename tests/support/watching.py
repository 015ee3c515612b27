"""What a command leaves, and where strace is there, what it writes and whom it calls.

Python's own hooks do not see the sockets and files of native code, which is where telemetry is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE_CALLS = (
    "open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,"
    "link,linkat,symlink,symlinkat"
)
# A file for each thread, so that no call is cut in two; paths beside file descriptors.
STRACE = ("strace", "-ff", "-qq", "-y", "-s", "300", "-e", f"trace=%network,{FILE_CALLS}")
FASTER = "--seccomp-bpf"  # stops at these calls alone; from strace 5.3
OURS = re.compile(r"YOLO_|MPL|TORCH|ORT_|XDG_|PYTEST|ULTRALYTICS|NO_ALBUMENTATIONS|OMP_WAIT_POLICY")

CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+|\?)(?:<(.*)>)?")
FOR_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")
PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
SOCKET = re.compile(r"<(socket:\[\d+\])>")
# Read to look a name up, and for nothing else.
NAME_SERVICE = {"/etc/resolv.conf", "/etc/hosts"}

# Sockets of the internet that nothing is sent through: what is done with each, and why.
SILENT = {
    ("AF_INET6", "SOCK_STREAM"): "urllib3 looks whether ::1 can be had; pydicom imports it by way "
    "of requests, where that is installed",
    ("AF_INET", "SOCK_DGRAM"): "libuuid lists the network cards for uuid.getnode(), which "
    "ultralytics calls for its settings",
}
LOOPBACK = re.compile(r'sin6_port=htons\(0\).*inet_pton\(AF_INET6, "::1"')


@dataclass(frozen=True, slots=True)
class Call:
    """A system call as strace prints it."""

    name: str
    words: str
    result: int
    opened: str | None  # the path of the file descriptor that it returned


@dataclass(frozen=True, slots=True)
class Watched:
    """A command that has ended."""

    done: subprocess.CompletedProcess[str]
    folder: Path  # where it ran
    private: Path  # where its HOME, temporary folder and the like are
    calls: tuple[Call, ...] | None  # None without strace

    def left(self) -> list[str]:
        """Files in its private folders."""
        return sorted(
            one.relative_to(self.private).as_posix()
            for one in self.private.rglob("*")
            if not one.is_dir()
        )

    def left_in(self, name: str) -> list[Path]:
        """Files and folders in one of its private folders."""
        return sorted((self.private / name).rglob("*"))

    def written(self) -> set[str]:
        """Every path that was made, or opened for writing."""
        assert self.calls is not None
        return {path for call in self.calls for path in _written(call, self.folder)}

    def contacts(self) -> list[str]:
        """Calls by which something could have been sent to another machine, or asked of one."""
        assert self.calls is not None
        return list(_contacts(self.calls))


def watch(program: str | Path, words: Sequence[str], folder: Path, private: Path) -> Watched:
    """Run a Python program in a folder, with a HOME, temporary folder and caches of its own.

    Args:
        program: Python, or a file of it.
        words: its arguments.
        folder: to run it in.
        private: where its own folders are made.
    """
    places = {
        "HOME": "home",
        "TMPDIR": "tmp",
        "XDG_CACHE_HOME": "cache",
        "XDG_CONFIG_HOME": "config",
        "XDG_DATA_HOME": "data",
        "XDG_STATE_HOME": "state",
    }
    kept = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    own = {name: str(private / place) for name, place in places.items()}
    for place in own.values():
        Path(place).mkdir(parents=True)
    trace = private.with_name(f"{private.name}-trace")
    trace.mkdir()
    watcher = _strace()
    traced = [*watcher, "-o", str(trace / "of")] if watcher else []
    python = [str(program)] if isinstance(program, Path) else ["-c", program]
    done = subprocess.run(
        [*traced, sys.executable, *python, *words],
        cwd=folder,
        # Compiled Python beside its source is the interpreter's.
        env={**kept, **own, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=1800,  # a hang
    )
    calls = tuple(one for path in sorted(trace.iterdir()) for one in _calls(path))
    return Watched(done, folder, private, calls if watcher else None)


@cache
def _strace() -> tuple[str, ...]:
    """The command before another that watches it; empty where that cannot be done."""
    for command in ((*STRACE, FASTER, "-f"), STRACE):
        try:
            tried = subprocess.run([*command, "-o", os.devnull, "true"], capture_output=True)
        except OSError:
            return ()
        if tried.returncode == 0:
            return command
    return ()


def can_watch() -> bool:
    """Whether system calls are seen."""
    return bool(_strace())


def _calls(path: Path) -> Iterator[Call]:
    for line in path.read_text(errors="replace").splitlines():
        found = CALL.match(line)
        if found:
            name, words, result, opened = found.groups()
            yield Call(name, words, -1 if result == "?" else int(result), opened)


def _written(call: Call, folder: Path) -> Iterator[str]:
    if call.result < 0:
        return
    if call.opened is not None:
        if call.name == "creat" or FOR_WRITING.search(call.words):
            yield call.opened.removesuffix(" (deleted)")
    elif call.name.startswith(("mk", "rename", "link", "symlink")):
        for base, path in PATH.findall(call.words):
            yield os.path.normpath(Path(base or folder) / path)


def _contacts(calls: Sequence[Call]) -> Iterator[str]:
    internet: dict[str, Call] = {}
    for call in calls:
        if call.name == "socket" and call.words.startswith("AF_INET") and call.result >= 0:
            internet[str(call.opened)] = call
            if tuple(re.findall(r"AF_\w+|SOCK_(?:STREAM|DGRAM)", call.words)) not in SILENT:
                yield f"socket({call.words})"
    for call in calls:
        used = SOCKET.search(call.words)
        bound = call.name == "bind" and LOOPBACK.search(call.words)
        if "sa_family=AF_INET" in call.words or (used and used[1] in internet):
            if not bound:
                yield f"{call.name}({call.words})"
        elif NAME_SERVICE & {path for _, path in PATH.findall(call.words)}:
            yield f"{call.name}({call.words})"
