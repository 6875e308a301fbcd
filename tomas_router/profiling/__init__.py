"""Measures tools: runs them in fresh processes under resource limits and writes ``profiling.csv``.

Imported by every measuring process before its limits hold, so importing it loads nothing but the standard library.
"""

from tomas_router.profiling.tool import ProfiledTool

__all__ = ["ProfiledTool"]
