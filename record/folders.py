"""Run folders: on this machine, or anywhere that fsspec reaches, such as s3://bucket/runs; their files whole or absent.

A file of a folder elsewhere is written in memory and then sent, since what is sent in part would be kept in part.
"""

import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from fsspec import available_protocols

PASSWORD = re.compile(
    r"""(?P<before>://[^\s:/@"']*:)[^\s/@"']+(?=@)|(?P<key>[?&]\w*password=)[^\s&#"']+""", re.IGNORECASE
)
"""Of a URL; it stays in what was given, and is neither stored nor shown."""
HERE = "file", "local"
"""Names of this machine's own file system, whose folders are named without a URL."""


class UnreachableError(OSError):
    """A folder elsewhere that gives or takes nothing; the message says which and why."""

    def __init__(self, path: Path, error: Exception) -> None:
        said = " ".join(str(error).split()) or type(error).__name__
        super().__init__(f"{path} cannot be reached: {said}")


def elsewhere(text: str | Path) -> bool:
    """Whether a text names a folder by its URL, other than that of a database."""
    scheme, url, _ = str(text).partition("://")
    return bool(url) and scheme not in HERE and scheme in available_protocols()


def folder_at(text: str) -> Path:
    """Return a folder; one elsewhere is a path of universal_pathlib, which does what those of pathlib do.

    Raises:
        ValueError: if what reaches it is not installed.
    """
    if not elsewhere(text):
        return Path(text)
    try:
        from upath import UPath

        path: Any = UPath(text, use_listings_cache=False)
        path.fs  # noqa: B018, as it is what imports the file system
    except ImportError as error:
        raise ValueError(f"{text} needs packages that are not here ({error}); for s3: repmlp-search[s3]") from None
    return path


@contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Tell any failure of a folder elsewhere as one kind of error, whatever reaches it; a missing file stays that.

    Raises:
        UnreachableError: if it gives or takes nothing.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        if isinstance(path, Path):
            raise
        raise UnreachableError(path, error) from error


@contextmanager
def in_memory() -> Iterator[Path]:
    """Give a path to write to that leaves nothing behind, even if this process is killed; on Linux alone."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryDirectory(prefix="repmlp-") as scratch:
            yield Path(scratch) / "part"
        return
    file = os.memfd_create("repmlp")
    try:
        yield Path(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path here to write to, which takes the place of `path` when all went well, and is removed when not."""
    if not isinstance(path, Path):
        sent: Any = path
        with in_memory() as part:
            yield part
            with reaching(path):
                sent.fs.pipe_file(sent.path, part.read_bytes())
        return
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def opened(path: Path) -> BinaryIO:
    """Open a file for reading; one elsewhere is fetched first.

    Raises:
        FileNotFoundError: if there is none.
    """
    if isinstance(path, Path):
        return path.open("rb")
    with reaching(path):  # in one request, as another one may find what has been replaced meanwhile
        return io.BytesIO(path.fs.cat_file(path.path))


def removed(path: Path) -> None:
    """Remove a file, if there is one."""
    with reaching(path):
        path.unlink(missing_ok=True)


def hidden(text: str) -> str:
    """Return a text with the passwords of the URLs in it as ***."""
    return PASSWORD.sub(lambda found: f"{found['before'] or found['key']}***", text)
