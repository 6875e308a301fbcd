"""What the ``tomas`` command returns to the shell."""

OK = 0
"""Done; for ``tomas plan``: planned, or no tool is needed."""
BAD_INPUT = 2
"""A file, option or model cannot be used as given; nothing was run."""
INFEASIBLE = 3
"""A plan was wanted, and no placement fits the timeline."""
INCOMPLETE = 4
"""``tomas profile`` is done, and at least one row is missing: a tool failed, hung, or needed more than there is.
``tomas execute`` is done, and at least one step failed or was not run."""
