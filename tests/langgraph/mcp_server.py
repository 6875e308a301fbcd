"""A real MCP server for tests, in a process of its own: ``python -m tests.langgraph.mcp_server stdio|http [PORT]``.

``count_words`` carries a measured profile under ``_meta``. ``learn`` and ``forget`` add and remove a tool while the
server runs, ``change`` gives ``count_words`` another schema.
"""

from __future__ import annotations

import sys

from mcp.server.fastmcp import FastMCP

ROW = {"cpu_core": 1, "cpu_mem_gb": 0.25, "gpu_sm": 0, "gpu_mem_gb": 0}
META = {
    "tomas": {
        "version": "1.0",
        "tags": ["domain:text"],
        "profile": [{"input_size": size, **ROW, "latency_ms": ms} for size, ms in (("small", 40), ("medium", 80))],
    }
}


def count_words(text: str) -> int:
    """Counts the words of a text or report."""
    return len(text.split())


def count_kinds(text: str, unique: bool) -> int:
    """Counts the words of a text or report."""
    return len(set(text.split())) if unique else len(text.split())


def translate(text: str, language: str) -> str:
    """Translates a text into another language."""
    return f"{text} in {language}"


def serve(transport: str, port: int) -> None:
    server = FastMCP("words", host="127.0.0.1", port=port, log_level="CRITICAL")
    server.add_tool(count_words, meta=META)

    @server.tool()
    def fail(text: str) -> str:
        """Refuses any text."""
        raise ValueError(f"no {text} today")

    @server.tool()
    def learn() -> str:
        """Learns how to translate."""
        server.add_tool(translate)
        return "learned"

    @server.tool()
    def forget() -> str:
        """Forgets how to translate."""
        server.remove_tool("translate")
        return "forgotten"

    @server.tool()
    def change() -> str:
        """Gives the word counter another schema."""
        server.remove_tool("count_words")
        server.add_tool(count_kinds, name="count_words", meta={"tomas": META["tomas"] | {"version": "2.0"}})
        return "changed"

    server.run("stdio" if transport == "stdio" else "streamable-http")


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
