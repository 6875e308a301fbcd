"""Runs plans. Every executor takes a ``ToolPlan`` and returns a report."""
