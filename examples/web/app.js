// The page: photos and camera in, overlay, legend and files out. worker.js runs the network.

const MODEL = "model.onnx";
const MOST_BYTES = 100e6; // of a photo's file
const MOST_SIDE = 2048; // of a photo in the page; larger ones are scaled down
const SIDES = [256, 384, 512, 640, 768, 1024]; // for networks that take any size
const KEPT_RUNS = 20;

const at = name => document.getElementById(name);
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });

let about, names, palette; // of the network
let photo = null; // ImageBitmap as large as it's shown
let photoName = "photo";
let found = null; // {classes, width, height, ...} of the photo
let runs = []; // milliseconds of the last runs, as they came
let stream = null; // of the camera
let waiting = null; // {resolve, reject} of the run in progress
let runNumber = 0;
let newest = 0; // of the photos asked for: a later one wins

// ---- messages

function say(text) {
  at("status").textContent = text;
}

function fail(text) {
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
  else if (data.found) {
    waiting?.resolve(data);
    waiting = null;
  } else if (waiting) {
    waiting.reject(new Error(data.error));
    waiting = null;
  } else {
    at("loading").hidden = true;
    fail(data.error);
  }
};

worker.onerror = event => {
  event.preventDefault();
  at("loading").hidden = true;
  const text = "The network's part of the page can't start; open it through serve.py, in a browser of 2023 or later.";
  waiting ? waiting.reject(new Error(text)) : fail(text);
  waiting = null;
};

function ready({ about: read, engine, note }) {
  about = read;
  const count = about.num_classes ?? 256;
  names = about.class_names ?? Array.from({ length: count }, (_, index) => `class ${index}`);
  palette = about.palette ?? names.map((_, index) => hue(index * 137.508)); // golden angle
  const [, height, width] = about.input.shape;
  const size = width ? `${width}x${height} pixels` : "any size";
  const known = about.num_classes ? `${about.num_classes} classes` : "classes without names";
  at("model").textContent = [about.preset ?? about.network, known, size, about.licence && `weights ${about.licence}`]
    .filter(Boolean).join(", ");
  at("engine").textContent = `${engine.name}, ${engine.on}. ${note}`;
  if (engine.provider === "wasm" && !self.crossOriginIsolated)
    at("engine").textContent += " One thread, as the server doesn't isolate this page (serve.py does).";
  at("engine").dataset.on = engine.provider;
  at("loading").hidden = true;
  at("choose").disabled = at("camera").disabled = false;
  if (!width) {
    for (const side of SIDES) at("size").add(new Option(`${side} pixels`, side));
    at("size").value = 512;
    at("size-label").hidden = false;
  }
  say("Ready.");
}

function hue(degrees) {
  const part = shift => Math.round(255 * (0.55 + 0.35 * Math.cos(((degrees - shift) * Math.PI) / 180)));
  return [part(0), part(120), part(240)];
}

function segment(picture) {
  return new Promise((resolve, reject) => {
    waiting = { resolve, reject };
    worker.postMessage({ run: ++runNumber, picture, longer: Number(at("size").value || 512) }, [picture]);
  });
}

// ---- photos

async function openPhoto(file) {
  if (!about || !file) return;
  stopCamera();
  const number = ++newest;
  fail("");
  try {
    const picture = await decode(file);
    while (waiting) await new Promise(resolve => setTimeout(resolve, 20));
    if (number !== newest) return picture.close();
    photoName = (file.name || "photo").replace(/\.[^.]*$/, "") || "photo";
    runs = [];
    await show(picture);
  } catch (error) {
    if (number === newest) {
      fail(error.message);
      say("");
    }
  }
}

async function decode(file) {
  const name = file.name || "What was given";
  if (file.size > MOST_BYTES)
    throw new Error(`${name} has ${megabytes(file.size)} MB; this page takes up to ${megabytes(MOST_BYTES)} MB.`);
  say(`Reading ${name}`);
  let picture;
  try {
    picture = await createImageBitmap(file, { imageOrientation: "from-image" }); // as EXIF says
  } catch {
    throw new Error(`${name} is no image that this browser can read; give a JPEG, PNG or WebP.`);
  }
  const { width, height } = picture;
  const factor = MOST_SIDE / Math.max(width, height);
  at("sizes").dataset.note = "";
  if (factor >= 1) return picture;
  const [smallWidth, smallHeight] = [width, height].map(side => Math.max(1, Math.round(side * factor)));
  const small = await createImageBitmap(picture, {
    resizeWidth: smallWidth, resizeHeight: smallHeight, resizeQuality: "high",
  });
  picture.close();
  at("sizes").dataset.note = ` (scaled down from ${width}x${height})`;
  return small;
}

async function show(picture) {
  say("Working");
  at("result").setAttribute("aria-busy", "true");
  try {
    const result = await segment(await createImageBitmap(picture));
    photo?.close();
    photo = picture;
    found = result;
    runs = [...runs, result.milliseconds].slice(-KEPT_RUNS);
    draw();
  } catch (error) {
    picture.close();
    throw error;
  } finally {
    at("result").removeAttribute("aria-busy");
  }
}

async function again() {
  at("again").disabled = true;
  const number = newest;
  try {
    for (let turn = 0; turn < 5 && number === newest && !stream; turn++) {
      say(`Run ${turn + 1} of 5`);
      const result = await segment(await createImageBitmap(photo));
      if (number !== newest) return;
      runs = [...runs, result.milliseconds].slice(-KEPT_RUNS);
      drawTime();
    }
    say("Done.");
  } catch (error) {
    fail(error.message);
  } finally {
    at("again").disabled = Boolean(stream);
  }
}

// ---- what is seen

function draw() {
  at("result").hidden = false;
  at("result").dataset.run = found.found;
  at("drop").classList.add("small");
  const canvas = at("photo");
  if (canvas.width !== photo.width || canvas.height !== photo.height) {
    canvas.width = photo.width;
    canvas.height = photo.height;
    // Small photos are shown larger, none higher than the window.
    const { width, height } = photo;
    const shown = Math.min(Math.max(width, 800), (Math.max(320, innerHeight * 0.75) * width) / height);
    canvas.style.width = `${Math.round(shown)}px`;
  }
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // behind transparent pixels, as for the network
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(photo, 0, 0);
  at("classes").width = found.width;
  at("classes").height = found.height;
  at("classes").getContext("2d").putImageData(coloured(), 0, 0);
  drawLegend();
  drawTime();
  leave();
  at("sizes").textContent =
    `${photo.width}x${photo.height}${at("sizes").dataset.note ?? ""}, seen at ${found.width}x${found.height}`;
  if (!stream) say(`${photoName}: ${found.classes.length.toLocaleString("en")} pixels in ${found.present.length} classes.`);
}

function coloured() {
  const image = new ImageData(found.width, found.height);
  const pixels = new Uint32Array(image.data.buffer);
  const bytes = new Uint8ClampedArray(4);
  const colours = palette.map(([red, green, blue]) => {
    bytes.set([red, green, blue, 255]);
    return new Uint32Array(bytes.buffer)[0]; // in this machine's order of bytes
  });
  for (let index = 0; index < pixels.length; index++) pixels[index] = colours[found.classes[index]];
  return image;
}

function drawLegend() {
  const counts = new Map();
  for (const index of found.classes) counts.set(index, (counts.get(index) ?? 0) + 1);
  found.present = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const rows = found.present.map(([index, count]) => {
    const row = document.createElement("li");
    row.dataset.index = index;
    const swatch = row.appendChild(document.createElement("i"));
    swatch.style.backgroundColor = `rgb(${palette[index].join(" ")})`;
    row.appendChild(document.createElement("span")).textContent = names[index];
    row.appendChild(document.createElement("b")).textContent = percent(count / found.classes.length);
    return row;
  });
  at("legend").replaceChildren(...rows);
  const most = found.present.slice(0, 3)
    .map(([index, count]) => `${names[index]} ${percent(count / found.classes.length)}`);
  at("view").setAttribute("aria-label", `Photograph with classes: ${most.join(", ")}. Arrow keys name the class at a point.`);
}

function drawTime() {
  const sorted = [...runs].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  at("milliseconds").textContent = median < 10 ? median.toFixed(1) : Math.round(median);
  at("runs").textContent = runs.length > 1
    ? `for the network at ${found.inputWidth}x${found.inputHeight}, median of ${runs.length} runs`
    : `for the network at ${found.inputWidth}x${found.inputHeight}`;
}

// ---- the class under the pointer, or under a cross that the arrow keys move

let cross = null; // [x, y], 0 to 1

function classAt(x, y) {
  const column = Math.min(found.width - 1, Math.max(0, Math.floor(x * found.width)));
  const row = Math.min(found.height - 1, Math.max(0, Math.floor(y * found.height)));
  return found.classes[row * found.width + column];
}

function name(index) {
  at("under").textContent = names[index];
  for (const row of at("legend").children) row.classList.toggle("under-pointer", Number(row.dataset.index) === index);
}

function point(event) {
  if (!found) return;
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
  if (!step || !found) return;
  event.preventDefault();
  cross = (cross ?? [0.5, 0.5]).map((value, axis) => Math.min(0.995, Math.max(0.005, value + step[axis] / 50)));
  at("cross").style.left = `${100 * cross[0]}%`;
  at("cross").style.top = `${100 * cross[1]}%`;
  at("cross").hidden = false;
  name(classAt(...cross));
  say(at("under").textContent);
}

// ---- files

function save(canvas, name) {
  canvas.toBlob(blob => {
    if (!blob) return fail("The picture is too large to be saved.");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }, "image/png");
}

function sized() {
  const canvas = document.createElement("canvas");
  canvas.width = photo.width;
  canvas.height = photo.height;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false; // no classes between classes
  return [canvas, context];
}

function saveOverlay() {
  const [canvas, context] = sized();
  context.drawImage(at("photo"), 0, 0);
  context.globalAlpha = at("opacity").value / 100;
  context.drawImage(at("classes"), 0, 0, canvas.width, canvas.height);
  save(canvas, `${photoName}_overlay.png`);
}

// Class indices as grey, as large as the photo.
function saveClasses() {
  if (found.classes.some(index => index > 255))
    return fail("Classes beyond 255 don't fit the grey PNG of a browser; save the overlay.");
  const image = new ImageData(found.width, found.height);
  found.classes.forEach((index, place) => image.data.set([index, index, index, 255], 4 * place));
  const small = new OffscreenCanvas(found.width, found.height);
  small.getContext("2d").putImageData(image, 0, 0);
  const [canvas, context] = sized();
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  save(canvas, `${photoName}_classes.png`);
}

// ---- the camera

async function startCamera() {
  if (!navigator.mediaDevices?.getUserMedia)
    return fail("Browsers give the camera only to pages from https or localhost.");
  fail("");
  at("camera").disabled = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch (error) {
    const known = {
      NotAllowedError: "The camera wasn't allowed; allow it beside the page's address.",
      NotFoundError: "There is no camera.",
      NotReadableError: "Another program uses the camera.",
    };
    fail(known[error.name] ?? `The camera doesn't start: ${error.message}`);
  }
  at("camera").disabled = false;
  if (!stream) return;
  at("camera").textContent = "Stop the camera";
  at("camera").setAttribute("aria-pressed", "true");
  at("again").disabled = true;
  newest++;
  photoName = "camera";
  runs = [];
  at("sizes").dataset.note = "";
  const video = document.createElement("video");
  video.muted = video.playsInline = true;
  const live = (video.srcObject = stream);
  live.getVideoTracks()[0].onended = stopCamera; // unplugged, or the permission withdrawn
  try {
    await video.play();
    while (stream === live) {
      while (waiting) await new Promise(resolve => setTimeout(resolve, 20));
      if (stream !== live) break;
      await show(await createImageBitmap(video));
      say("Live: each picture is shown when the network has seen it.");
      await new Promise(requestAnimationFrame);
    }
  } catch (error) {
    if (stream === live) fail(error.message);
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
  say("The camera is off.");
}

// ---- events

at("choose").onclick = () => at("file").click();
at("file").onchange = event => {
  openPhoto(event.target.files[0]);
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
  if (!photo || stream) return;
  while (waiting) await new Promise(resolve => setTimeout(resolve, 20));
  runs = [];
  show(await createImageBitmap(photo)).catch(error => fail(error.message));
};
at("view").onpointermove = at("view").onpointerdown = point;
at("view").onpointerleave = leave;
at("view").onkeydown = arrow;
at("view").onblur = leave;
document.ondragover = event => {
  event.preventDefault(); // else the browser opens the file in place of the page
  document.body.classList.add("over");
};
document.ondragleave = event => {
  if (!event.relatedTarget) document.body.classList.remove("over");
};
document.ondrop = event => {
  event.preventDefault();
  document.body.classList.remove("over");
  openPhoto(event.dataTransfer.files[0]);
};
document.onpaste = event => openPhoto(event.clipboardData.files[0]);

// What a test or another page's script may want to know.
Object.defineProperty(window, "segmentation", { get: () => found && { ...found, names, palette, runs } });

// ?on=wasm, ?on=webgpu, ?threads=1
const asked = new URLSearchParams(location.search);
worker.postMessage({ load: { url: MODEL, on: asked.get("on"), most: Number(asked.get("threads")) } });
