"""Templates of job scripts: files that work as they are, and in which lines are set. Text in, text out.

A line that can be set begins with words that no other line begins with: a directive (``#SBATCH --ntasks=``), or a variable (``PYTHON=``).
A directive may be there, be there but off (``##SBATCH ...``), or not be there: then it comes after the last that is. What follows its
value in the line stays: other options, other resources after a comma, a comment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import platformdirs

from mpicluster.errors import LaunchError

__all__ = ["filled", "places", "template"]


def places() -> list[Path]:
    """Folders in which templates are looked for: the user's, the site's, and those that came with mpicluster."""
    given = os.environ.get("MPICLUSTER_LAUNCHERS", "")
    folders = [Path(p).expanduser() for p in given.split(os.pathsep) if p]
    folders.append(platformdirs.user_config_path("mpicluster", appauthor=False) / "launchers")
    folders += [Path(p) / "mpicluster" / "launchers" for p in ("/usr/local/etc", "/etc")]
    own = Path(__file__).parents[1]
    installed = own / "launchers"  # of a wheel; in a checkout they lie beside the package
    folders.append(installed if installed.is_dir() else own.parent / "launchers")
    return folders


def template(file: str, given: str | os.PathLike[str] | None = None) -> tuple[Path, str]:
    """A template, and where it was found: that which is ``given``, or the first of its name.

    Raises
    ------
    LaunchError
        it is not there, or cannot be read.
    """
    candidates = [Path(given).expanduser()] if given is not None else [folder / file for folder in places()]
    for path in candidates:
        try:
            return path, path.read_text()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as e:
            raise LaunchError(f"the template {path} cannot be read: {e}") from e
    raise LaunchError(f"there is no template {given or file}; looked in {', '.join(str(p.parent) for p in candidates)}")


def filled(
    text: str, prefix: str, directives: Mapping[str, str], extra: Sequence[str] = (), variables: Mapping[str, str] | None = None
) -> str:
    """A template with directives and variables set.

    ``directives``
        by what such a line begins with after the prefix, what it is to be;
    ``extra``
        directives that come last;
    ``variables``
        by the words before their value (``PYTHON=``), their values, quoted as they have to be.

    Raises
    ------
    LaunchError
        the template has no such variable: it cannot do what is asked.
    """
    lines = text.splitlines()
    off = "#?" if prefix.startswith("#") else "(?:##)?"
    for begin, line in directives.items():
        pattern = re.compile(rf"{off}{re.escape(prefix)}\s*{re.escape(begin)}")
        at = [i for i, old in enumerate(lines) if pattern.match(old)]
        inserted = not at
        if inserted:
            at = [_end_of(lines, prefix)]
            lines.insert(at[0], "")
        lines[at[0]] = f"{prefix} {line}".lstrip() if inserted else _replaced(lines[at[0]], prefix, begin, line)
        for i in reversed(at[1:]):
            del lines[i]
    end = _end_of(lines, prefix)
    lines[end:end] = [f"{prefix} {line}".lstrip() for line in extra]
    for begin, value in (variables or {}).items():
        at = [i for i, old in enumerate(lines) if old.startswith(begin)]
        if not at:
            raise LaunchError(f"the template has no line that begins with {begin!r}, which {value} could be put into")
        lines[at[0]] = f"{begin}{value}"
    return "\n".join(lines) + "\n"


def _replaced(old: str, prefix: str, begin: str, line: str) -> str:
    """A line with another value, and what followed the old one."""
    if not prefix:
        return line  # an assignment, whose value is all of the line
    value = old[old.index(begin) + len(begin) :].lstrip()
    if begin.endswith("["):  # of LSF's: -R "span[ptile=4] select[...]"
        new, closing, _ = line.rpartition("]")
        return f"{prefix} {new}{closing}" + (value.partition("]")[2] or '"')
    ends = r'"[^"]*"|\'[^\']*\'|' + (r"\S+\s+\S+" if begin == "-pe " else r"[^\s,]*" if begin.startswith("-l ") else r"\S*")
    found = re.match(ends, value)
    return f"{prefix} {line}{value[found.end() :] if found else ''}".rstrip()


def _end_of(lines: Sequence[str], prefix: str) -> int:
    """Where directives end: after the last of them; in a file that has none but assignments, before the first empty line."""
    if prefix:
        last = max((i for i, line in enumerate(lines) if line.startswith(prefix)), default=0)
        return last + 1
    return next((i for i, line in enumerate(lines) if line.startswith("queue")), len(lines))
