"""The report: `from results.report import report`. A page, the sections below its front, and the data inside it."""

from results.report.page import report

__all__ = ["report"]
