"""Colours that colour-blind readers tell apart (Okabe and Ito), and what each stands for."""

OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#000000")
"""For values that are no numbers; without the yellow, which is too faint on white."""
STATES = {"front": "#d55e00", "complete": "#0072b2", "under way": "#009e73", "stopped": "#999999", "failed": "#cc79a7"}
ABSENT = "#999999"
"""Of a trial that was not asked."""
EXCLUDED = "#dddddd"
"""Of a trial that exceeds a limit."""
