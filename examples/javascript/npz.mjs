// Reads the arrays of a NumPy .npz file (a zip without compression) as {name: {shape, data}}; float32 only.
import { readFileSync } from "node:fs";

const END_OF_DIRECTORY = 0x06054b50;

export function readNpz(path) {
  const file = readFileSync(path);
  const arrays = {};
  for (const { name, method, size, header } of entries(file)) {
    if (method !== 0) throw new Error(`${path}: ${name} is compressed`);
    const start = header + 30 + file.readUInt16LE(header + 26) + file.readUInt16LE(header + 28);
    arrays[name.replace(/\.npy$/, "")] = parseNpy(file.subarray(start, start + size), `${path}: ${name}`);
  }
  return arrays;
}

function* entries(file) {
  let end = file.length - 22;
  while (end >= 0 && file.readUInt32LE(end) !== END_OF_DIRECTORY) end--;
  if (end < 0) throw new Error("no zip file");
  let at = file.readUInt32LE(end + 16);
  for (let count = file.readUInt16LE(end + 10); count > 0; count--) {
    const [nameSize, extraSize, commentSize] = [28, 30, 32].map((offset) => file.readUInt16LE(at + offset));
    yield {
      name: file.toString("utf8", at + 46, at + 46 + nameSize),
      method: file.readUInt16LE(at + 10),
      size: file.readUInt32LE(at + 24),
      header: file.readUInt32LE(at + 42),
    };
    at += 46 + nameSize + extraSize + commentSize;
  }
}

function parseNpy(bytes, name) {
  const wide = bytes[6] > 1; // format version 1 has a header of at most 64 kB
  const start = (wide ? 12 : 10) + (wide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8));
  const header = bytes.toString("latin1", 0, start);
  if (!header.includes("'<f4'") || header.includes("'fortran_order': True")) {
    throw new Error(`${name} is no C-ordered float32 array`);
  }
  const shape = header.match(/'shape': \(([^)]*)\)/)[1].split(",").filter((part) => part.trim()).map(Number);
  return { shape, data: new Float32Array(new Uint8Array(bytes.subarray(start)).buffer) };
}
