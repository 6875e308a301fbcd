"""Makes a graph of many layers out of one of two, whose second layer is repeated under new names."""

from __future__ import annotations

import re

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

TRACED_LAYERS = 2
TEMPLATE = TRACED_LAYERS - 1
RESIDUAL_NORM = "SkipSimplifiedLayerNormalization"
_PLACE = re.compile(r"(^|/)layers\.(\d+)([./])")
_CACHE = re.compile(r"^(past_key_values|present)\.(\d+)\.(key|value)$")


def repeat_layers(model: ModelProto, layers: int) -> ModelProto:
    """Adds copies of the last traced layer until there are ``layers``; no more than were traced: as it is.

    What enters the second layer and what leaves it are read off the two norms that add the layer below: its own first
    node, and the first node behind it.

    Raises:
        ValueError: The traced graph is not laid out as expected, for instance by another exporter version.
    """
    graph = model.graph
    if layers <= TRACED_LAYERS:
        return model
    template = [node for node in graph.node if layer_of(node) == TEMPLATE]
    made = {name for node in template for name in node.output if name}
    tail = [node for node in graph.node if layer_of(node) is None and _reads_through(node, made, graph)]
    head = [node for node in graph.node if layer_of(node) != TEMPLATE and not any(node is other for other in tail)]
    entering, leaving = _residuals(template, tail)
    _check_alone(template, head, made, entering)
    owned = {tensor.name for tensor in graph.initializer if place(tensor.name) == TEMPLATE}
    nodes = [*head, *template]
    for layer in range(TRACED_LAYERS, layers):
        below = {old: _named(new, layer - 1) for old, new in zip(entering, leaving, strict=True)}
        nodes += [_moved(node, layer, made | owned, below) for node in template]
    for node in tail:
        for index, name in enumerate(node.input):
            node.input[index] = _named(name, layers - 1) if name in leaving else name
    _repeat_values(graph, layers)
    del graph.node[:]
    graph.node.extend([*nodes, *tail])
    return model


def _residuals(template: list[NodeProto], tail: list[NodeProto]) -> tuple[list[str], list[str]]:
    first, behind = template[0] if template else NodeProto(), tail[0] if tail else NodeProto()
    if not first.op_type == behind.op_type == RESIDUAL_NORM:
        raise ValueError(f"{RESIDUAL_NORM} must open and follow a layer, got {first.op_type!r} and {behind.op_type!r}")
    return list(first.input[:2]), list(behind.input[:2])


def _check_alone(template: list[NodeProto], head: list[NodeProto], made: set[str], entering: list[str]) -> None:
    """The template may read its own values, what every layer shares, and the layer below at its entrance only."""
    below = {name for node in head if layer_of(node) is not None and node.op_type != "Constant" for name in node.output}
    stray = {name for node in template for name in node.input} & (below - made - set(entering))
    if stray:
        raise ValueError(f"the second layer also reads {sorted(stray)} of the first, so it cannot be repeated")


def _reads_through(node: NodeProto, made: set[str], graph: GraphProto) -> bool:
    """Whether a node outside the layers comes behind them."""
    reached = set(made)
    for other in graph.node:
        if any(name in reached for name in other.input):
            reached.update(name for name in other.output if name)
    return any(name in reached for name in node.input)


def place(name: str) -> int | None:
    """Layer that a value or weight belongs to."""
    match = _PLACE.search(name) or _CACHE.match(name)
    return int(match.group(2)) if match else None


def layer_of(node: NodeProto) -> int | None:
    """Layer that a node belongs to."""
    return place(node.name)


def _named(name: str, layer: int) -> str:
    if _CACHE.match(name):
        return _CACHE.sub(rf"\g<1>.{layer}.\g<3>", name)
    return _PLACE.sub(rf"\g<1>layers.{layer}\g<3>", name, count=1)


def _moved(node: NodeProto, layer: int, own: set[str], below: dict[str, str]) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    copied.name = _named(node.name, layer)
    for index, name in enumerate(node.input):
        if name in own or _CACHE.match(name):
            copied.input[index] = _named(name, layer)
        else:
            copied.input[index] = below.get(name, name)
    for index, name in enumerate(node.output):
        copied.output[index] = _named(name, layer) if name else ""
    return copied


def _repeat_values(graph: GraphProto, layers: int) -> None:
    """Inputs, outputs and weights of the layers that were added."""
    weights = [tensor for tensor in graph.initializer if place(tensor.name) == TEMPLATE]
    for layer in range(TEMPLATE + 1, layers):
        for tensor in weights:
            copied = TensorProto()
            copied.CopyFrom(tensor)
            copied.name = _named(tensor.name, layer)
            graph.initializer.append(copied)
    for values in (graph.input, graph.output):
        last = [value for value in values if place(value.name) == TEMPLATE]
        for layer in range(TEMPLATE + 1, layers):
            for value in last:
                extra = ValueInfoProto()
                extra.CopyFrom(value)
                extra.name = _named(value.name, layer)
                values.append(extra)
    del graph.value_info[:]
