"""A journal in segments reads as one that is appended to, whoever wrote which part of it."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from record import segments
from record.segments import Segments


@given(
    st.lists(st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=3), max_size=4), max_size=4),
    st.integers(0, 40),
    st.sampled_from([1, 30, 10**6]),
)
def test_lines_are_read_from_any_number_on(writers: list[list[list[str]]], first: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "SIZE", size)
        lines: list[dict[str, str]] = []
        reader = Segments(Path(folder))
        for appended in writers:
            writer = Segments(Path(folder))
            for texts in appended:
                new = [{"text": text} for text in texts]
                writer.append_logs(new)
                lines += new
                assert writer.read_logs(len(lines) - 1) == lines[-1:]
            assert writer.read_logs(first) == lines[first:]
            assert reader.read_logs(first) == lines[first:]
            assert reader.read_logs(0) == lines


def test_a_segment_is_followed_by_the_next_once_it_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SIZE", 20)
    writer = Segments(tmp_path)
    for number in range(5):
        writer.append_logs([{"number": number}])
    assert [p.name for p in sorted((tmp_path / "journal").iterdir())] == [
        "000000000.jsonl",
        "000000002.jsonl",
        "000000004.jsonl",
    ]
