// Runs the network outside of the page, which stays responsive.
// In:  {load: {url, on, maxThreads}}, {run: id, bitmap: ImageBitmap, longer}.
// Out: {progress: {bytes, total}}, {ready: {about, engine, note}},
//      {result: id, classes, width, height, milliseconds}, {error, id}.

const DIST = new URL("node_modules/onnxruntime-web/dist/", import.meta.url).href;
const MEAN = "rgb(124 116 104)"; // of ImageNet; pads images that don't have the network's shape
const MAX_THREADS = 4;

let ort, session, about, canvas;

class UserError extends Error {} // its message is for the user of the page

onmessage = async ({ data }) => {
  try {
    if (data.load) postMessage({ ready: await load(data.load) });
    else {
      const result = await run(data.bitmap, data.longer);
      postMessage({ result: data.run, ...result }, [result.classes.buffer]);
    }
  } catch (error) {
    const message = error instanceof UserError ? error.message : `The network failed: ${error?.message ?? error}`;
    postMessage({ error: message, id: data.run });
  } finally {
    data.bitmap?.close();
  }
};

async function load({ url, on, maxThreads }) {
  const model = await download(url);
  about = metadata(model);
  if (about && about.input.shape[3] !== 3)
    throw new UserError(`This network takes images of ${about.input.shape[3]} bands; this page reads photos in RGB only.`);
  if (about && about.output.name !== "classes")
    throw new UserError(`This file returns ${about.output.name}; export it with output="classes".`);
  let note = "";
  const gpu = on !== "wasm" && (await adapter(on === "webgpu"));
  if (on === "webgpu" && !gpu) note = "This browser has no WebGPU.";
  if (gpu)
    try {
      const engine = await open(model, "webgpu", 1);
      return { about, engine, note };
    } catch (error) {
      note = `WebGPU failed (${String(error?.message ?? error).slice(0, 120)}).`;
    }
  const engine = await open(model, "wasm", maxThreads || MAX_THREADS);
  return { about, engine, note };
}

// WebGPU emulated on the processor is slower than WebAssembly.
async function adapter(any) {
  const gpu = await navigator.gpu?.requestAdapter().catch(() => null);
  return gpu && (any || !(gpu.info?.isFallbackAdapter ?? gpu.isFallbackAdapter));
}

async function open(model, provider, maxThreads) {
  const threads = self.crossOriginIsolated ? Math.min(maxThreads, navigator.hardwareConcurrency) : 1;
  try {
    ort = await import(`${DIST}ort.${provider}.min.mjs`);
  } catch {
    throw new UserError("ONNX Runtime Web is missing; run `npm install` in the folder of this page.");
  }
  ort.env.wasm.wasmPaths = DIST;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(model, { executionProviders: [provider] });
  about ??= minimalMetadata(session);
  // The first run compiles shaders or fills caches, and shows whether the network runs here.
  const side = Math.max(64, about.input.smallest_side ?? 0);
  const [, height, width] = about.input.shape;
  await infer(new Uint8Array(3 * (height ?? side) * (width ?? side)), height ?? side, width ?? side);
  const version = ort.env.versions?.web ?? "";
  const wasm = `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
  return {
    name: `ONNX Runtime Web ${version}`.trim(),
    on: provider === "webgpu" ? "WebGPU" : wasm,
    provider,
    threads,
  };
}

async function download(url) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new UserError("The server doesn't answer; is it still running?");
  }
  // Some servers answer with a page instead of 404.
  if (!response.ok || response.headers.get("content-type")?.startsWith("text/html"))
    throw new UserError(
      `There is no ${url} next to this page. Export a network to it:\n` +
        'python -c "import keras_psp.export as e; from keras_psp import PSPNet; ' +
        `e.onnx(PSPNet.from_preset('NAME'), 'examples/web/model.onnx', image_size=(512, 512), batch_size=1)"`,
    );
  // The length of compressed data is not that of the file.
  const length = response.headers.get("content-encoding") ? 0 : Number(response.headers.get("content-length"));
  const whole = length ? new Uint8Array(length) : null; // an unknown length takes twice the memory
  const parts = [];
  let bytes = 0, reported = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (!whole) parts.push(value);
    else if (bytes + value.length <= length) whole.set(value, bytes);
    else throw new UserError(`${url} is longer than its server announced; reload the page.`);
    bytes += value.length;
    if (performance.now() - reported > 100) {
      reported = performance.now();
      postMessage({ progress: { bytes, total: length } });
    }
  }
  if (length && bytes !== length) throw new UserError(`${url} is incomplete; reload the page.`);
  postMessage({ progress: { bytes, total: bytes } });
  return whole ?? new Uint8Array(await new Blob(parts).arrayBuffer());
}

// metadata_props["keras_psp"] of an ONNX file, which ONNX Runtime Web doesn't expose: entries of
// field 14 of ModelProto, a protobuf message, with key (1) and value (2).
function metadata(file) {
  const text = new TextDecoder();
  for (const [field, entry] of fields(file)) {
    if (field !== 14) continue;
    const parts = Object.fromEntries([...fields(entry)].map(([name, value]) => [name, value]));
    if (text.decode(parts[1]) === "keras_psp") return JSON.parse(text.decode(parts[2]));
  }
  return null;
}

function* fields(bytes) {
  let at = 0;
  const number = () => {
    let value = 0, factor = 1, byte;
    do {
      byte = bytes[at++];
      value += (byte & 127) * factor; // no shifts: lengths may exceed 2^31
      factor *= 128;
    } while (byte > 127);
    return value;
  };
  while (at < bytes.length) {
    const tag = number(), kind = tag & 7;
    if (kind === 0) number();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = number();
      if (at + length > bytes.length) break;
      yield [tag >>> 3, bytes.subarray(at, at + length)];
      at += length;
    } else break;
  }
  if (at !== bytes.length) throw new UserError("model.onnx isn't an ONNX file; export it again.");
}

// What can be read from a file of another program.
function minimalMetadata(session) {
  const { name, type, shape } = session.inputMetadata[0];
  if (shape?.length !== 4 || shape[3] !== 3)
    throw new UserError("This network isn't from keras_psp: its input isn't (1, height, width, 3).");
  const fixed = shape.map(side => (typeof side === "number" && side > 0 ? side : null));
  return { input: { name, dtype: type, shape: fixed }, output: { name: session.outputNames[0] } };
}

async function infer(rgb, height, width) {
  const { name, dtype } = about.input;
  const pixels = dtype === "float32" ? Float32Array.from(rgb) : rgb;
  const begin = performance.now();
  const input = new ort.Tensor(dtype, pixels, [1, height, width, 3]);
  const output = (await session.run({ [name]: input }))[session.outputNames[0]];
  const classes = await output.getData();
  const milliseconds = performance.now() - begin;
  return { classes, milliseconds };
}

async function run(bitmap, longer) {
  const [, fixedHeight, fixedWidth] = about.input.shape;
  const smallest = about.input.smallest_side ?? 1;
  // Scale the image to fit a fixed input size, keeping its proportions; the rest has the mean color.
  const factor = fixedHeight
    ? Math.min(fixedWidth / bitmap.width, fixedHeight / bitmap.height)
    : Math.min(1, longer / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * factor));
  const height = Math.max(1, Math.round(bitmap.height * factor));
  const inputWidth = fixedWidth ?? Math.max(width, smallest);
  const inputHeight = fixedHeight ?? Math.max(height, smallest);
  const left = (inputWidth - width) >> 1, top = (inputHeight - height) >> 1;

  canvas ??= new OffscreenCanvas(1, 1);
  canvas.width = inputWidth;
  canvas.height = inputHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = MEAN;
  context.fillRect(0, 0, inputWidth, inputHeight);
  context.fillStyle = "white"; // under transparent pixels
  context.fillRect(left, top, width, height);
  context.drawImage(bitmap, left, top, width, height);
  const { data } = context.getImageData(0, 0, inputWidth, inputHeight);
  const rgb = new Uint8Array(3 * inputWidth * inputHeight);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    rgb[to] = data[from];
    rgb[to + 1] = data[from + 1];
    rgb[to + 2] = data[from + 2];
  }

  const { classes: all, milliseconds } = await infer(rgb, inputHeight, inputWidth);
  const classes = new Uint16Array(width * height);
  for (let y = 0; y < height; y++) {
    const begin = (y + top) * inputWidth + left;
    for (let x = 0; x < width; x++) classes[y * width + x] = Number(all[begin + x]);
  }
  return { classes, width, height, inputWidth, inputHeight, milliseconds };
}
