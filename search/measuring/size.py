"""Bytes of the file that a network is deployed with."""

from search.measuring.runtimes import Subject


def size(subject: Subject) -> dict[str, float]:
    """Return the bytes of the file that a point's runtime reads."""
    return {"size": float(subject.file.stat().st_size)}
