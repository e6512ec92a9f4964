"""Where a run folder is, by how it is named."""

from pathlib import Path

import pytest

from record.folders import elsewhere, folder_at, whole
from record.study import Search


@pytest.mark.parametrize(
    ("name", "path"),
    [("runs", "runs"), ("/a/runs", "/a/runs"), ("C#/runs", "C#/runs"), ("a:b", "a:b")],
)
def test_a_folder_of_this_machine(name: str, path: str) -> None:
    assert not elsewhere(name)
    assert folder_at(name) == Path(path)
    study = Search(name="tiny", runs=name)
    assert study.folder == study.local == Path(path) / "tiny"


def test_a_folder_elsewhere_and_what_stays_here() -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    study = Search(name="tiny", runs="s3://bucket/runs")
    assert str(study.folder) == "s3://bucket/runs/tiny"
    assert study.local == Path("runs/tiny")
    assert not elsewhere("postgresql://me@host/studies")
    for runs in ("nowhere://bucket/runs", "file:///a/runs"):
        with pytest.raises(ValueError, match="give the path of a folder here, or a URL that fsspec knows"):
            Search(name="tiny", runs=runs)


@pytest.mark.parametrize("url", ["", "memory://test-of-whole"])
def test_a_file_is_there_whole_or_not_at_all(url: str, tmp_path: Path) -> None:
    folder = folder_at(url) if url else tmp_path
    path = folder / "weights" / "0.bin"
    for content, fails in ((b"one", False), (b"two", True), (b"three", False)):
        before = path.read_bytes() if path.exists() else None
        try:
            with whole(path) as part, part.open("wb") as file:
                file.write(content)
                if fails:
                    raise InterruptedError
        except InterruptedError:
            assert path.read_bytes() == before
        else:
            assert path.read_bytes() == content
    assert [kept.name for kept in path.parent.iterdir()] == ["0.bin"]
