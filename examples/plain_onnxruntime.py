"""Scores tools for a request from the exported files: onnxruntime, tokenizers and numpy, no import of the package.

    python examples/plain_onnxruntime.py [MODEL_DIR]

Any quantised export will do; sizes come from its manifest. The same in JavaScript: examples/javascript. What the files
are: docs/artifacts.md.
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession, SessionOptions
from tokenizers import Tokenizer

TOOLS = {"transcriber": "Turn speech into text.", "shortener": "Summarise a text.", "weather": "Tell the weather."}
REQUEST, FREE = "Transcribe the interview.", [8, 32, 0, 0]  # vCPU, GiB, percent of the GPU, its GiB: for an hour
MODEL = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "tomas_router" / "models" / "embedded"
manifest = json.loads((MODEL / "manifest.json").read_text(encoding="utf-8"))
size, scaler, table = (manifest[part] for part in ("sizes", "curve_scaler", "token_table"))
small = np.load(MODEL / "small_tensors.npz")
tokenizer = Tokenizer.from_file(str(MODEL / manifest["tokenizer"]))
tokenizer.encode_special_tokens = True  # what a user types is always plain text


# Level `packed`: graphs read a weights file that is computed, each 4-bit number times the step of its block.
options, packed = SessionOptions(), manifest.get("packed_layers")
if packed:
    stored, layers_bin = np.fromfile(MODEL / packed["stored_in"], np.uint8), np.zeros(packed["bytes"], np.int8)
    for weight in packed["weights"]:
        (inputs, outputs), start = weight["shape"], weight["offset"]
        byte = stored[weight["numbers_offset"] :][: inputs * outputs // 2]
        numbers = (np.stack([byte << 4, byte], 1).view(np.int8) >> 4).reshape(-1, packed["block"], outputs)
        steps = stored[weight["steps_offset"] :][: len(numbers) * outputs].view(np.int8).reshape(-1, 1, outputs)
        layers_bin[start : start + inputs * outputs] = (numbers * steps).ravel()
    files = {packed["file"]: layers_bin, packed["stored_in"]: stored}
    options.add_external_initializers_from_files_in_memory(
        [*files], [*files.values()], [f.size for f in files.values()]
    )


def run(graph, **inputs):
    return InferenceSession(MODEL / manifest["graphs"][graph]["file"], options).run(None, inputs)


def layers(graph, embeds, past, first_position):
    names = [f"past_key_values.{i // 2}.{('key', 'value')[i % 2]}" for i in range(len(past))]
    positions = np.arange(first_position, first_position + len(embeds))[None]
    mask = np.ones((1, past[0].shape[2] + len(embeds)), np.int64)
    inputs = {"inputs_embeds": embeds[None], "attention_mask": mask, "position_ids": positions}
    return run(graph, **inputs, **dict(zip(names, past, strict=True)))[0][0]


# Tools, without measured profile rows: encoded once for as long as their texts stay the same.
texts = [tokenizer.encode(f"Tool: {n}\nDescription: {d}").ids[: size["max_tool_tokens"]] for n, d in TOOLS.items()]
mask = np.arange(max(map(len, texts))) < np.array([[len(ids)] for ids in texts])
token_ids = np.zeros(mask.shape, np.int64)
token_ids[mask] = np.concatenate(texts)
rows, row_mask = np.zeros((len(texts), 1, 6), np.float32), np.zeros((len(texts), 1), bool)
tools = run("tool_encoder", token_ids=token_ids, token_mask=mask, rows=rows, row_mask=row_mask)
aware, _, retrieval, *prefix = tools  # prefix: keys and values (tools, layers, heads, head size)

# The request, read alone: bytes in blocks, a scale a block, then the text layers on an empty past.
ids = tokenizer.encode(REQUEST).ids[: size["max_task_tokens"]]
arrays = table["values"], table["scales"]
values, scales = (np.memmap(MODEL / a["file"], a["dtype"], "r", a["offset"], (*a["shape"],))[ids] for a in arrays)
embeds = ((values - np.float32(128)) * scales.repeat(values.shape[1] // scales.shape[1], 1))[:, : table["width"]]
nothing = np.zeros((1, size["kv_heads"], 0, size["head_dim"]), np.float32)
states = layers("text", embeds, [nothing] * 2 * size["text_layers"], 0)

# The curve of free resources; then all together behind the tools, closed by <TOOL_PLAN> and <TOOL_ID>.
curve = (np.log1p(np.tile(FREE, (1, size["curve_points"], 1))) - scaler["offset"]) / scaler["scale"]
horizon = np.array([np.log(3600) / 8], np.float32)
v_temporal, virtual = run("context", series=curve.astype(np.float32), log_horizon=horizon)
sequence = np.concatenate([virtual, states, small["special"][:1] + small["links"][:1], small["special"][1:2]])
past = [part[:, layer].swapaxes(0, 1)[None] for layer in range(size["layers"]) for part in prefix]
hidden = layers("backbone", sequence, past, 1)
task = hidden[len(virtual) : len(virtual) + len(ids)]
gate, _, query, end = run("open_heads", task_hidden=task, slot_hidden=hidden[-1], v_temporal=v_temporal)

# A tool's logit: its key times the query, and how near its text is to the request's.
weight = small["retrieval_weight"][ids] / small["retrieval_weight"][ids].sum()
unit = weight @ (states / np.sqrt((states**2).mean(-1, keepdims=True) + 1e-6))
vector = small["retrieval_projection"] @ (weight @ embeds) + small["retrieval_states"] @ np.append(unit, np.float32(1))
prior = 20 * small["prior_weight"] * (retrieval @ (vector / np.linalg.norm(vector)))
logits = np.append(run("tool_set", v_toolaware=aware)[0] @ query + prior, end)
needed = bool(gate > manifest["calibration"]["gate_threshold"])
scores = dict(zip([*TOOLS, "END"], map(float, logits), strict=True))
print(json.dumps({"gate_logit": float(gate), "needs_a_tool": needed, "logits": scores}, indent=1))
