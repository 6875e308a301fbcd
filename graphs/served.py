"""The graphs that ``langgraph.json`` serves; the model is loaded here, when a server starts, not inside a request."""

from __future__ import annotations

from graphs import existing_agent as existing
from graphs import router_agent as router
from graphs import supervisor as supervising
from tomas_router import Planner

_planner = Planner.load()

router_agent = router.make_graph(_planner)
existing_agent = existing.make_agent(planner=_planner)
supervisor = supervising.make_graph(_planner)
