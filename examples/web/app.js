// The page: images and camera in, overlay, legend and files out. worker.js runs the network.

const MODEL = "model.onnx";
const MAX_BYTES = 100e6; // of an image file
const MAX_SIDE = 2048; // of an image on the page; larger ones are scaled down
const SIDES = [256, 384, 512, 640, 768, 1024]; // for networks that take any size
const KEPT_RUNS = 20;

const at = name => document.getElementById(name);
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });

let about, names, palette; // of the network
let image = null; // ImageBitmap at the size on the page
let imageName = "image";
let result = null; // {classes, width, height, ...} of the image
let runs = []; // milliseconds of the last runs, in their order
let stream = null; // of the camera
let waiting = null; // {resolve, reject} of the run in progress
let queue = Promise.resolve(); // of the last run, after which the next one starts
let runNumber = 0;
let newest = 0; // number of the last image requested, which replaces earlier ones

// ---- messages

function setStatus(text) {
  at("status").textContent = text;
}

function showError(text) {
  at("error").textContent = text;
  at("error").hidden = !text;
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
}

function percent(share) {
  return share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`;
}

// ---- the network

worker.onmessage = ({ data }) => {
  if (data.progress) {
    const { bytes, total } = data.progress;
    at("progress").max = total || 1;
    if (total) at("progress").value = bytes;
    const part = total ? `${megabytes(bytes)} of ${megabytes(total)} MB` : `${megabytes(bytes)} MB`;
    at("loading-text").textContent =
      bytes === total ? `Starting the network (${megabytes(total)} MB)` : `Loading the network: ${part}`;
    if (bytes === total) at("progress").removeAttribute("value");
  } else if (data.ready) ready(data.ready);
  else if (data.result) {
    waiting?.resolve(data);
    waiting = null;
  } else if (waiting) {
    waiting.reject(new Error(data.error));
    waiting = null;
  } else {
    at("loading").hidden = true;
    showError(data.error);
  }
};

worker.onerror = event => {
  event.preventDefault();
  at("loading").hidden = true;
  const text = "The page's worker can't start; open the page through serve.py, in a browser of 2023 or later.";
  waiting ? waiting.reject(new Error(text)) : showError(text);
  waiting = null;
};

function ready({ about: metadata, engine, note }) {
  about = metadata;
  const count = about.num_classes ?? 256;
  names = about.class_names ?? Array.from({ length: count }, (_, index) => `class ${index}`);
  palette = about.palette ?? names.map((_, index) => hue(index * 137.508)); // golden angle
  const [, height, width] = about.input.shape;
  const size = width ? `${width}x${height} pixels` : "any size";
  const known = about.num_classes ? `${about.num_classes} classes` : "classes without names";
  at("model").textContent = [about.preset ?? about.network, known, size, about.license && `weights ${about.license}`]
    .filter(Boolean).join(", ");
  at("engine").textContent = `${engine.name}, ${engine.on}. ${note}`;
  if (engine.provider === "wasm" && !self.crossOriginIsolated)
    at("engine").textContent += " One thread, since the server doesn't isolate this page (serve.py does).";
  at("engine").dataset.on = engine.provider;
  at("loading").hidden = true;
  at("choose").disabled = at("camera").disabled = false;
  if (!width) {
    for (const side of SIDES) at("size").add(new Option(`${side} pixels`, side));
    at("size").value = 512;
    at("size-label").hidden = false;
  }
  setStatus("Ready.");
}

function hue(degrees) {
  const part = shift => Math.round(255 * (0.55 + 0.35 * Math.cos(((degrees - shift) * Math.PI) / 180)));
  return [part(0), part(120), part(240)];
}

function segment(bitmap) {
  const run = () => new Promise((resolve, reject) => {
    waiting = { resolve, reject };
    worker.postMessage({ run: ++runNumber, bitmap, longer: Number(at("size").value || 512) }, [bitmap]);
  });
  return (queue = lastRun().then(run));
}

const lastRun = () => queue.catch(() => {});

// ---- images

async function openImage(file) {
  if (!about || !file) return;
  stopCamera();
  const number = ++newest;
  showError("");
  try {
    const bitmap = await decode(file);
    await lastRun();
    if (number !== newest) return bitmap.close();
    imageName = (file.name || "image").replace(/\.[^.]*$/, "") || "image";
    runs = [];
    await show(bitmap);
  } catch (error) {
    if (number === newest) {
      showError(error.message);
      setStatus("");
    }
  }
}

async function decode(file) {
  const name = file.name || "The file";
  if (file.size > MAX_BYTES)
    throw new Error(`${name} has ${megabytes(file.size)} MB; this page takes up to ${megabytes(MAX_BYTES)} MB.`);
  setStatus(`Reading ${name}`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }); // as EXIF says
  } catch {
    throw new Error(`${name} isn't an image that this browser can read; choose a JPEG, PNG or WebP.`);
  }
  const { width, height } = bitmap;
  const factor = MAX_SIDE / Math.max(width, height);
  at("sizes").dataset.note = "";
  if (factor >= 1) return bitmap;
  const [smallWidth, smallHeight] = [width, height].map(side => Math.max(1, Math.round(side * factor)));
  const small = await createImageBitmap(bitmap, {
    resizeWidth: smallWidth, resizeHeight: smallHeight, resizeQuality: "high",
  });
  bitmap.close();
  at("sizes").dataset.note = ` (scaled down from ${width}x${height})`;
  return small;
}

async function show(bitmap) {
  setStatus("Working");
  at("result").setAttribute("aria-busy", "true");
  try {
    result = await segment(await createImageBitmap(bitmap));
  } catch (error) {
    bitmap.close();
    throw error;
  } finally {
    at("result").removeAttribute("aria-busy");
  }
  image?.close();
  image = bitmap;
  runs = [...runs, result.milliseconds].slice(-KEPT_RUNS);
  draw();
}

async function again() {
  at("again").disabled = true;
  const number = newest, size = at("size").value;
  const same = () => number === newest && size === at("size").value && !stream;
  try {
    for (let turn = 0; turn < 5 && same(); turn++) {
      setStatus(`Run ${turn + 1} of 5`);
      const { milliseconds } = await segment(await createImageBitmap(image));
      if (!same()) return;
      runs = [...runs, milliseconds].slice(-KEPT_RUNS);
      drawTime();
    }
    setStatus("Done.");
  } catch (error) {
    showError(error.message);
  } finally {
    at("again").disabled = Boolean(stream);
  }
}

// ---- drawing

function draw() {
  at("result").hidden = false;
  at("result").dataset.run = result.result;
  at("drop").classList.add("small");
  const canvas = at("image");
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width;
    canvas.height = image.height;
    // Small images are shown larger; none is higher than the window.
    const { width, height } = image;
    const shown = Math.min(Math.max(width, 800), (Math.max(320, innerHeight * 0.75) * width) / height);
    canvas.style.width = `${Math.round(shown)}px`;
  }
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // under transparent pixels, as for the network
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0);
  at("classes").width = result.width;
  at("classes").height = result.height;
  at("classes").getContext("2d").putImageData(colored(), 0, 0);
  drawLegend();
  drawTime();
  leave();
  at("sizes").textContent =
    `${image.width}x${image.height}${at("sizes").dataset.note ?? ""}, segmented at ${result.width}x${result.height}`;
  if (!stream) setStatus(`${imageName}: ${result.classes.length.toLocaleString("en")} pixels in ${result.present.length} classes.`);
}

function colored() {
  const overlay = new ImageData(result.width, result.height);
  const pixels = new Uint32Array(overlay.data.buffer);
  const bytes = new Uint8ClampedArray(4);
  const colors = palette.map(([red, green, blue]) => {
    bytes.set([red, green, blue, 255]);
    return new Uint32Array(bytes.buffer)[0]; // in this machine's byte order
  });
  for (let index = 0; index < pixels.length; index++) pixels[index] = colors[result.classes[index]];
  return overlay;
}

function drawLegend() {
  const counts = new Map();
  for (const index of result.classes) counts.set(index, (counts.get(index) ?? 0) + 1);
  result.present = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const rows = result.present.map(([index, count]) => {
    const row = document.createElement("li");
    row.dataset.index = index;
    const swatch = row.appendChild(document.createElement("i"));
    swatch.style.backgroundColor = `rgb(${palette[index].join(" ")})`;
    row.appendChild(document.createElement("span")).textContent = names[index];
    row.appendChild(document.createElement("b")).textContent = percent(count / result.classes.length);
    return row;
  });
  at("legend").replaceChildren(...rows);
  const most = result.present.slice(0, 3)
    .map(([index, count]) => `${names[index]} ${percent(count / result.classes.length)}`);
  at("view").setAttribute("aria-label", `Image with classes: ${most.join(", ")}. Arrow keys name the class at a point.`);
}

function drawTime() {
  const sorted = [...runs].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  at("milliseconds").textContent = median < 10 ? median.toFixed(1) : Math.round(median);
  at("runs").textContent = runs.length > 1
    ? `for the network at ${result.inputWidth}x${result.inputHeight}, median of ${runs.length} runs`
    : `for the network at ${result.inputWidth}x${result.inputHeight}`;
}

// ---- the class under the pointer, or under a cross that the arrow keys move

let cross = null; // [x, y], 0 to 1

function classAt(x, y) {
  const column = Math.min(result.width - 1, Math.max(0, Math.floor(x * result.width)));
  const row = Math.min(result.height - 1, Math.max(0, Math.floor(y * result.height)));
  return result.classes[row * result.width + column];
}

function name(index) {
  at("under").textContent = names[index];
  for (const row of at("legend").children) row.classList.toggle("under-pointer", Number(row.dataset.index) === index);
}

function point(event) {
  if (!result) return;
  const box = at("view").getBoundingClientRect();
  const index = classAt((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  name(index);
  const tip = at("tip");
  tip.textContent = names[index];
  tip.hidden = false;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4))}px`;
  const above = event.clientY - tip.offsetHeight - 10;
  tip.style.top = `${above > 4 ? above : event.clientY + 16}px`;
}

function leave() {
  at("tip").hidden = at("cross").hidden = true;
  at("under").textContent = "\u00a0";
  for (const row of at("legend").children) row.classList.remove("under-pointer");
}

function arrow(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step || !result) return;
  event.preventDefault();
  cross = (cross ?? [0.5, 0.5]).map((value, axis) => Math.min(0.995, Math.max(0.005, value + step[axis] / 50)));
  at("cross").style.left = `${100 * cross[0]}%`;
  at("cross").style.top = `${100 * cross[1]}%`;
  at("cross").hidden = false;
  name(classAt(...cross));
  setStatus(at("under").textContent);
}

// ---- files

function save(canvas, name) {
  canvas.toBlob(blob => {
    if (!blob) return showError("The image is too large to be saved.");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }, "image/png");
}

function fullSize() {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false; // class indices are not interpolated
  return [canvas, context];
}

function saveOverlay() {
  const [canvas, context] = fullSize();
  context.drawImage(at("image"), 0, 0);
  context.globalAlpha = at("opacity").value / 100;
  context.drawImage(at("classes"), 0, 0, canvas.width, canvas.height);
  save(canvas, `${imageName}_overlay.png`);
}

// Class indices as gray values, at the size of the image.
function saveClasses() {
  if (result.classes.some(index => index > 255))
    return showError("Classes beyond 255 don't fit the gray PNG of a browser; save the overlay.");
  const gray = new ImageData(result.width, result.height);
  result.classes.forEach((index, place) => gray.data.set([index, index, index, 255], 4 * place));
  const small = new OffscreenCanvas(result.width, result.height);
  small.getContext("2d").putImageData(gray, 0, 0);
  const [canvas, context] = fullSize();
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  save(canvas, `${imageName}_classes.png`);
}

// ---- the camera

async function startCamera() {
  if (!navigator.mediaDevices?.getUserMedia)
    return showError("Browsers allow the camera only on pages from https or localhost.");
  showError("");
  at("camera").disabled = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch (error) {
    const known = {
      NotAllowedError: "The camera wasn't allowed; allow it next to the page's address.",
      NotFoundError: "No camera was found.",
      NotReadableError: "Another program uses the camera.",
    };
    showError(known[error.name] ?? `The camera doesn't start: ${error.message}`);
  }
  at("camera").disabled = false;
  if (!stream) return;
  at("camera").textContent = "Stop the camera";
  at("camera").setAttribute("aria-pressed", "true");
  at("again").disabled = true;
  newest++;
  imageName = "camera";
  runs = [];
  at("sizes").dataset.note = "";
  const video = document.createElement("video");
  video.muted = video.playsInline = true;
  const live = (video.srcObject = stream);
  live.getVideoTracks()[0].onended = stopCamera; // unplugged, or the permission was withdrawn
  try {
    await video.play();
    while (stream === live) {
      await lastRun();
      if (stream !== live) break;
      await show(await createImageBitmap(video));
      setStatus("Live: each frame appears when the network has segmented it.");
      await new Promise(requestAnimationFrame);
    }
  } catch (error) {
    if (stream === live) showError(error.message);
  }
  stopCamera();
}

function stopCamera() {
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  at("camera").textContent = "Start the camera";
  at("camera").removeAttribute("aria-pressed");
  at("again").disabled = false;
  setStatus("The camera is off.");
}

// ---- events

at("choose").onclick = () => at("file").click();
at("file").onchange = event => {
  openImage(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
};
at("camera").onclick = () => (stream ? stopCamera() : startCamera());
at("again").onclick = again;
at("save-overlay").onclick = saveOverlay;
at("save-classes").onclick = saveClasses;
at("opacity").oninput = () => {
  at("view").style.setProperty("--opacity", at("opacity").value / 100);
  at("opacity-text").value = `${at("opacity").value} %`;
};
at("size").onchange = async () => {
  await lastRun();
  if (!image || stream) return;
  runs = [];
  try {
    await show(await createImageBitmap(image));
  } catch (error) {
    showError(error.message);
  }
};
at("view").onpointermove = at("view").onpointerdown = point;
at("view").onpointerleave = leave;
at("view").onkeydown = arrow;
at("view").onblur = leave;
document.ondragover = event => {
  event.preventDefault(); // or the browser would open the file instead of the page
  document.body.classList.add("over");
};
document.ondragleave = event => {
  if (!event.relatedTarget) document.body.classList.remove("over");
};
document.ondrop = event => {
  event.preventDefault();
  document.body.classList.remove("over");
  openImage(event.dataTransfer.files[0]);
};
document.onpaste = event => openImage(event.clipboardData.files[0]);

// For tests and scripts of other pages.
Object.defineProperty(window, "segmentation", { get: () => result && { ...result, names, palette, runs } });

// ?on=wasm, ?on=webgpu, ?threads=1
const query = new URLSearchParams(location.search);
worker.postMessage({ load: { url: MODEL, on: query.get("on"), maxThreads: Number(query.get("threads")) } });
