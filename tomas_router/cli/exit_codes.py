"""What the ``tomas`` command returns to the shell."""

OK = 0
"""Done; for ``tomas plan``: planned, or no tool is needed."""
BAD_INPUT = 2
"""A file, option or model cannot be used as given; nothing was run."""
INFEASIBLE = 3
"""A plan was wanted, and no placement fits the timeline."""
