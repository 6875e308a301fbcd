// Scores tools for a request from the exported files, as examples/plain_onnxruntime.py does and with the same numbers.
//
//     npm ci && node tool_scores.mjs [MODEL_DIR]
//
// Any quantised export will do; sizes come from its manifest. What the files are: docs/artifacts.md.
import { openSync, readFileSync, readSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { Tokenizer } from "@huggingface/tokenizers";
import { readNpz } from "./npz.mjs";

const TOOLS = { transcriber: "Turn speech into text.", shortener: "Summarise a text.", weather: "Tell the weather." };
const REQUEST = "Transcribe the interview.";
const FREE = [8, 32, 0, 0]; // vCPU, GiB, percent of the GPU, its GiB: for an hour
const MODEL = process.argv[2] ?? fileURLToPath(new URL("../../tomas_router/models/embedded", import.meta.url));

const readJson = (name) => JSON.parse(readFileSync(path.join(MODEL, name), "utf8"));
const manifest = readJson("manifest.json");
const { sizes, curve_scaler: scaler, token_table: table } = manifest;
const small = readNpz(path.join(MODEL, "small_tensors.npz"));
const tokenizer = new Tokenizer(readJson(manifest.tokenizer), {});
const width = sizes.d_model;

// ---- arithmetic ----------------------------------------------------------------------------------------------------

const float = (data, shape) => new Tensor("float32", Float32Array.from(data), shape);
const int64 = (data, shape) => new Tensor("int64", BigInt64Array.from(data, BigInt), shape);
const bool = (data, shape) => new Tensor("bool", Uint8Array.from(data), shape);
const row = (data, index, size) => data.subarray(index * size, (index + 1) * size);
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const times = ({ shape, data }, vector) => Array.from({ length: shape[0] }, (_, i) => dot(row(data, i, shape[1]), vector));
const encode = (text, limit) => tokenizer.encode(text, { add_special_tokens: false }).ids.slice(0, limit);

/** Sum of rows, each with its weight. */
function weighted(data, weights, size) {
  const sum = new Float32Array(size);
  weights.forEach((weight, i) => row(data, i, size).forEach((value, k) => (sum[k] += weight * value)));
  return sum;
}

// ---- graphs --------------------------------------------------------------------------------------------------------

// Level `packed`: graphs read a weights file that is computed, each 4-bit number times the step of its block.
function weightFiles({ packed_layers: packed }) {
  if (!packed) return undefined;
  const stored = readFileSync(path.join(MODEL, packed.stored_in));
  const unpacked = new Int8Array(packed.bytes);
  for (const { shape, offset, numbers_offset, steps_offset } of packed.weights) {
    const [inputs, outputs] = shape;
    for (let at = 0; at < inputs * outputs; at += outputs) {
      const steps = steps_offset + Math.floor(at / outputs / packed.block) * outputs;
      for (let output = 0; output < outputs; output++) {
        const byte = stored[numbers_offset + ((at + output) >> 1)];
        const number = (byte << ((at + output) & 1 ? 24 : 28)) >> 28; // the first of two is in the lower half
        unpacked[offset + at + output] = number * stored[steps + output];
      }
    }
  }
  return [
    { path: packed.file, data: new Uint8Array(unpacked.buffer) },
    { path: packed.stored_in, data: stored },
  ];
}

const externalData = weightFiles(manifest);

async function run(graph, inputs) {
  const { file } = manifest.graphs[graph];
  const options = { intraOpNumThreads: 1, interOpNumThreads: 1, ...(externalData && { externalData }) };
  const session = await InferenceSession.create(path.join(MODEL, file), options);
  return session.run(inputs);
}

async function layers(graph, embeds, past, firstPosition) {
  const count = embeds.length / width;
  const inputs = {
    inputs_embeds: float(embeds, [1, count, width]),
    attention_mask: int64(Array(past[0].dims[2] + count).fill(1), [1, past[0].dims[2] + count]),
    position_ids: int64([...Array(count).keys()].map((i) => i + firstPosition), [1, count]),
  };
  past.forEach((tensor, i) => (inputs[`past_key_values.${i >> 1}.${["key", "value"][i & 1]}`] = tensor));
  return (await run(graph, inputs)).last_hidden_state.data;
}

// ---- tools: encoded once for as long as their texts stay the same; these have no measured profile rows ---------------

const texts = Object.entries(TOOLS).map(([name, desc]) =>
  encode(`Tool: ${name}\nDescription: ${desc}`, sizes.max_tool_tokens),
);
const [count, longest] = [texts.length, Math.max(...texts.map((ids) => ids.length))];
const padded = texts.flatMap((ids) => [...ids, ...Array(longest - ids.length).fill(0)]);
const tools = await run("tool_encoder", {
  token_ids: int64(padded, [count, longest]),
  token_mask: bool(texts.flatMap((ids) => Array.from({ length: longest }, (_, i) => i < ids.length)), [count, longest]),
  rows: float(Array(count * 6).fill(0), [count, 1, 6]),
  row_mask: bool(Array(count).fill(0), [count, 1]),
});

// ---- the request, read alone -----------------------------------------------------------------------------------------

const ids = encode(REQUEST, sizes.max_task_tokens);
const weightsFile = openSync(path.join(MODEL, table.values.file));

/** Bytes in blocks, a scale a block. */
function embedding(id) {
  const [stored, blocks] = [table.values.shape[1], table.scales.shape[1]];
  const bytes = new Uint8Array(stored);
  const scales = new Float32Array(blocks);
  readSync(weightsFile, bytes, 0, stored, table.values.offset + id * stored);
  readSync(weightsFile, new Uint8Array(scales.buffer), 0, 4 * blocks, table.scales.offset + id * 4 * blocks);
  return Array.from(bytes, (byte, i) => (byte - 128) * scales[Math.floor((i * blocks) / stored)]).slice(0, table.width);
}

const embeds = Float32Array.from(ids.flatMap(embedding));
const nothing = float([], [1, sizes.kv_heads, 0, sizes.head_dim]);
const states = await layers("text", embeds, Array(2 * sizes.text_layers).fill(nothing), 0);

// ---- the curve of free resources; then all together behind the tools ---------------------------------------------------

const point = FREE.map((value, i) => (Math.log1p(value) - scaler.offset[i]) / scaler.scale[i]);
const { v_temporal, virtual_tokens } = await run("context", {
  series: float(Array(sizes.curve_points).fill(point).flat(), [1, sizes.curve_points, 4]),
  log_horizon: float([Math.log(3600) / 8], [1]),
});

/** One layer's keys or values of all tools: (tools, layers, heads, head size) to (1, heads, tools, head size). */
function prefix({ data }, layer) {
  const { layers: depth, kv_heads: heads, head_dim: size } = sizes;
  const part = new Float32Array(heads * count * size);
  for (let head = 0; head < heads; head++) {
    for (let tool = 0; tool < count; tool++) {
      part.set(row(data, (tool * depth + layer) * heads + head, size), (head * count + tool) * size);
    }
  }
  return float(part, [1, heads, count, size]);
}

const planToken = row(small.special.data, 0, width).map((value, i) => value + small.links.data[i]);
const slotToken = row(small.special.data, 1, width);
const past = [...Array(sizes.layers).keys()].flatMap((layer) => [
  prefix(tools.prefix_keys, layer),
  prefix(tools.prefix_values, layer),
]);
const hidden = await layers("backbone", [...virtual_tokens.data, ...states, ...planToken, ...slotToken], past, 1);
const [before, total] = [virtual_tokens.dims[0], hidden.length / width];
const heads = await run("open_heads", {
  task_hidden: float(hidden.subarray(before * width, (before + ids.length) * width), [ids.length, width]),
  slot_hidden: float(row(hidden, total - 1, width), [width]),
  v_temporal,
});

// ---- a tool's logit: its key times the query, and how near its text is to the request's --------------------------------

const raw = ids.map((id) => small.retrieval_weight.data[id]);
const weights = raw.map((weight) => weight / raw.reduce((a, b) => a + b));
const unit = states.slice();
ids.forEach((_, i) => {
  const state = row(unit, i, width);
  const size = Math.sqrt(dot(state, state) / width + 1e-6);
  state.forEach((value, k) => (state[k] = value / size));
});
const fromWords = times(small.retrieval_projection, weighted(embeds, weights, width));
const fromStates = times(small.retrieval_states, [...weighted(unit, weights, width), 1]);
const vector = fromWords.map((value, i) => value + fromStates[i]);
const length = Math.sqrt(dot(vector, vector));
const { keys } = await run("tool_set", { v_toolaware: tools.v_toolaware });
const scores = Object.keys(TOOLS).map((name, i) => {
  const near = dot(row(tools.retrieval.data, i, vector.length), vector) / length;
  return [name, dot(row(keys.data, i, keys.dims[1]), heads.query.data) + 20 * small.prior_weight.data[0] * near];
});
const gate = heads.gate_logit.data[0];
const logits = { ...Object.fromEntries(scores), END: heads.end_logit.data[0] };
console.log(JSON.stringify({ gate_logit: gate, needs_a_tool: gate > manifest.calibration.gate_threshold, logits }, null, 1));
