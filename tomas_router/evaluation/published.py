"""Published numbers on the same benchmarks, printed beside ours. They were measured on other rows of the same sets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One number of a paper."""

    source: str
    measure: str
    who: str
    value: float  # share, 0 to 1


METATOOL, ULTRATOOL, TASKBENCH = "arXiv 2310.03128", "arXiv 2405.19119", "arXiv 2311.18760"

PUBLISHED = (
    Published("metatool", "similar_10", f"ChatGPT, 5 examples ({METATOOL})", 0.7294),
    Published("metatool", "similar_10", f"Vicuna-7B ({METATOOL})", 0.7346),
    Published("metatool", "absent_10", f"ChatGPT, 5 examples ({METATOOL})", 0.7849),
    Published("metatool", "absent_10", f"ChatGPT ({METATOOL})", 0.5035),
    Published("metatool_multi", "set_accuracy", f"Vicuna-33B ({METATOOL})", 0.9115),
    Published("metatool_multi", "set_accuracy", f"ChatGPT ({METATOOL})", 0.8828),
    Published("ultratool", "node_f1_published", f"CodeLlama-13B + GraphSAGE ({ULTRATOOL})", 0.7281),
    Published("ultratool", "node_f1_published", f"GPT-4-turbo + GraphSAGE ({ULTRATOOL})", 0.7075),
    Published("ultratool", "link_f1_published", f"CodeLlama-13B + GraphSAGE ({ULTRATOOL})", 0.4526),
    Published("ultratool", "link_f1_published", f"GPT-4-turbo + GraphSAGE ({ULTRATOOL})", 0.4768),
    Published("ultratool", "exact_published", f"CodeLlama-13B + GraphSAGE ({ULTRATOOL})", 0.4349),
    Published("ultratool", "exact_published", f"GPT-4-turbo + GraphSAGE ({ULTRATOOL})", 0.3722),
    Published("taskbench_hf", "node_f1_micro", f"GPT-4 ({TASKBENCH})", 0.815),
    Published("taskbench_hf", "edge_f1_micro", f"GPT-4 ({TASKBENCH})", 0.547),
    Published("taskbench_mm", "node_f1_micro", f"GPT-4 ({TASKBENCH})", 0.909),
    Published("taskbench_mm", "edge_f1_micro", f"GPT-4 ({TASKBENCH})", 0.693),
)


def published_for(source: str) -> tuple[Published, ...]:
    """The numbers that belong beside a source, by its name."""
    return tuple(entry for entry in PUBLISHED if entry.source == source)
