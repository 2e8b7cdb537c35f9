"""Read log files as they grow. Files only."""

from __future__ import annotations

from pathlib import Path

from mpicluster.launch.process import tail

__all__ = ["Follower", "Tail"]


class Follower:
    """The lines of all logs in a folder: first the last ones of each file, then what has come since the last look."""

    def __init__(self, folder: Path, lines: int) -> None:
        self._folder = folder
        self._lines = lines
        #: bytes already shown of each file
        self._offsets: dict[Path, int] = {}
        self._shown: Path | None = None

    def read(self) -> list[str]:
        """New lines; a heading wherever the file changes."""
        found: list[str] = []
        for path in sorted(self._folder.glob("*.log")):
            try:
                new = self._new_lines(path)
            except OSError:
                continue
            if new and path != self._shown:
                found += ([""] if self._shown else []) + [f"==> {path.name} <=="]
                self._shown = path
            found += new
        return found

    def _new_lines(self, path: Path) -> list[str]:
        size = path.stat().st_size
        if path not in self._offsets:
            self._offsets[path] = size
            return tail(path, self._lines)
        start = self._offsets[path]
        if size < start:
            start = 0  # begun anew
        with path.open("rb") as f:
            f.seek(start)
            data = f.read(size - start)
        whole = data.rfind(b"\n") + 1  # a line that is still being written waits
        self._offsets[path] = start + whole
        return data[:whole].decode(errors="replace").splitlines()


class Tail:
    """What one file gets, from its beginning on, as whole lines. It need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self, *, whole: bool = False) -> list[str]:
        """What came since the last time; with ``whole`` also a line that has no end."""
        try:
            with self._path.open("rb") as f:
                f.seek(self._offset)
                data = f.read()
        except OSError:
            return []
        data = data if whole else data[: data.rfind(b"\n") + 1]
        self._offset += len(data)
        return data.decode(errors="replace").splitlines()
