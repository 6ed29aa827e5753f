// The page: chooses model and picture, shows what becomes of it.

const $ = id => document.getElementById(id);
const engine = new Engine();
const page = { contract: null, picture: null, isBusy: false };

/** Says what went wrong, or nothing. */
function say(error) {
  $("error").hidden = !error;
  $("error").textContent = error ? error.message ?? String(error) : "";
}

/** Runs what a click asks for, and says what goes wrong. */
async function attempt(work) {
  say(null);
  try {
    await work();
  } catch (error) {
    say(error);
  }
  refresh();
}

function refresh() {
  $("purify").disabled = !page.contract || !page.picture || page.isBusy;
  $("purify").hidden = page.isBusy;
  $("stop").hidden = !page.isBusy;
  $("noise-value").textContent = $("noise").value + " %";
}

// --- the model

async function openModel(bytes, name) {
  page.contract = null;
  page.picture = null;
  $("contract").replaceChildren();
  $("model-name").textContent = name;
  const contract = await engine.open(bytes, name);
  const { channels, height, width } = contract.image;
  if (channels !== 1 && channels !== 3) throw new Error(`${name} is for images of ${channels} channels, and this page shows 1 or 3`);
  page.contract = contract;
  const advised = contract.purification;
  const rows = {
    kind: contract.kind,
    network: contract.network?.name ?? "unknown",
    images: `${width}×${height}, ${channels === 1 ? "grey" : "colour"}`,
    advised: advised ? `${advised.steps} steps, ε = ${advised.step_size}, T = ${advised.temperature}` : "nothing: fill in the settings",
  };
  for (const [term, text] of Object.entries(rows)) {
    $("contract").append(Object.assign(document.createElement("dt"), { textContent: term }));
    $("contract").append(Object.assign(document.createElement("dd"), { textContent: text }));
  }
  $("steps").placeholder = advised?.steps ?? "";
  $("step-size").placeholder = advised?.step_size ?? "";
  $("temperature").placeholder = advised?.temperature ?? "";
  for (const id of ["before", "after"]) Object.assign($(id), { width, height });
  $("picture-name").textContent = "none yet";
  $("path").hidden = true;
  $("status").textContent = "Choose a picture.";
  await offerSamples();
}

async function openModelFile(file) {
  await openModel(new Uint8Array(await file.arrayBuffer()), file.name);
}

// --- the picture

/** Bytes [H, W, 4] of anything that can be drawn: cut to the model's shape, scaled, and grey where the model is. */
function scaled(source, width, height) {
  const { image } = page.contract;
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  const scale = Math.max(image.width / width, image.height / height);
  const [w, h] = [width * scale, height * scale];
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, image.width, image.height);
  context.drawImage(source, (image.width - w) / 2, (image.height - h) / 2, w, h);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  if (image.channels === 1) {
    for (let i = 0; i < data.length; i += 4) {
      data.fill(0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2], i, i + 3);
    }
  }
  return data;
}

function choosePicture(pixels, name) {
  page.picture = pixels;
  $("picture-name").textContent = name;
  showTampered();
  $("status").textContent = "Ready.";
}

async function openPictureFile(file) {
  if (!page.contract) throw new Error("choose a model first: it says how large a picture it takes");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is not a picture that this browser can read: use a PNG, JPEG or WebP file`);
  }
  choosePicture(scaled(bitmap, bitmap.width, bitmap.height), `${file.name}, ${bitmap.width}×${bitmap.height}`);
  bitmap.close();
}

/** The picture with noise from the same seed at every call, so that the slider changes its strength alone. */
function tampered() {
  const strength = 2.55 * Number($("noise").value);
  let state = 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32 - 0.5;
  const pixels = new Uint8ClampedArray(page.picture);
  for (let i = 0; i < pixels.length; i += 4) {
    const noise = [random(), random(), random()].map(value => strength * value);
    for (let channel = 0; channel < 3; channel++) pixels[i + channel] += noise[page.contract.image.channels === 1 ? 0 : channel];
  }
  return pixels;
}

function show(id, pixels) {
  const { width, height } = page.contract.image;
  $(id).getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels), width, height), 0, 0);
}

function showTampered() {
  show("before", tampered());
  $("after").getContext("2d").clearRect(0, 0, $("after").width, $("after").height);
  $("path").hidden = true;
}

/** Digits that come with the page, where the model is for their size. */
async function offerSamples() {
  const { image } = page.contract;
  const digits = shipped.digits.filter(() => image.channels === 1 && image.height === 8 && image.width === 8);
  $("samples").replaceChildren(...digits.map(({ label, pixels }) => {
    const rgba = new Uint8ClampedArray(pixels.flatMap(value => [value, value, value, 255]));
    const canvas = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
    canvas.getContext("2d").putImageData(new ImageData(rgba, 8, 8), 0, 0);
    const button = Object.assign(document.createElement("button"), { title: `a ${label}` });
    button.append(canvas);
    button.onclick = () => attempt(() => {
      for (const other of $("samples").children) other.setAttribute("aria-pressed", other === button);
      choosePicture(rgba, `a handwritten ${label}`);
    });
    return button;
  }));
  $("samples").firstElementChild?.click();
}

// --- the purification

const number = id => ($(id).value === "" ? undefined : Number($(id).value));

function settings() {
  const seed = $("seed").value.trim();
  if (!/^\d*$/.test(seed)) throw new Error(`the seed is ${seed}: expected a whole number from 0, or nothing for a fresh one`);
  const chosen = seed ? { seed: BigInt(seed) } : {};
  return { ...chosen, steps: number("steps"), stepSize: number("step-size"), temperature: number("temperature") };
}

async function purify() {
  const image = { bytes: new Uint8Array(tampered().buffer) };
  page.isBusy = true;
  refresh();
  try {
    const purified = await engine.purify(image, settings(), showProgress);
    show("after", purified.canvas);
    drawPath(purified.energies);
    $("status").textContent = `${purified.steps} steps, ${(purified.milliseconds / purified.steps).toFixed(2)} ms each, seed ${purified.seed}`;
  } catch (error) {
    if (error.message !== "stopped") throw error;
    $("status").textContent = "Stopped.";
  } finally {
    page.isBusy = false;
  }
}

function showProgress({ done, steps, milliseconds, canvas }) {
  show("after", canvas);
  $("progress").max = steps;
  $("progress").value = done;
  $("status").textContent = `step ${done} of ${steps}, ${(milliseconds / done).toFixed(2)} ms each`;
}

function drawPath(energies) {
  const [width, height, margin] = [600, 160, 8];
  const [lowest, highest] = [Math.min(...energies), Math.max(...energies)];
  const range = highest - lowest || 1;
  const point = (energy, i) =>
    `${margin + (i / (energies.length - 1 || 1)) * (width - 2 * margin)},${margin + ((highest - energy) / range) * (height - 2 * margin)}`;
  $("chart").innerHTML = `<line x1="0" y1="${height - 1}" x2="${width}" y2="${height - 1}"/><polyline points="${[...energies].map(point).join(" ")}"/>`;
  $("energies").textContent = `from ${energies[0].toPrecision(4)} to ${energies.at(-1).toPrecision(4)}`;
  $("path").hidden = false;
}

// --- clicks and drops

$("model-file").onchange = event => attempt(() => openModelFile(event.target.files[0]));
$("picture-file").onchange = event => attempt(() => openPictureFile(event.target.files[0]));
$("noise").oninput = () => {
  if (page.picture && !page.isBusy) showTampered();
  refresh();
};
$("purify").onclick = () => attempt(purify);
$("stop").onclick = () => engine.stop();
for (const [id, open] of [["model-drop", openModelFile], ["picture-drop", openPictureFile]]) {
  const place = $(id);
  place.ondragover = event => {
    event.preventDefault();
    place.classList.add("over");
  };
  place.ondragleave = () => place.classList.remove("over");
  place.ondrop = event => {
    event.preventDefault();
    place.classList.remove("over");
    if (event.dataTransfer.files.length) attempt(() => open(event.dataTransfer.files[0]));
  };
}

const shipped = JSON.parse($("shipped").textContent);
const started = attempt(async () => {
  const milliseconds = await engine.ready;
  if (shipped.model) await openModel(await unpacked(shipped.model.bytes), shipped.model.name);
  else $("status").textContent = `The library started in ${milliseconds.toFixed(0)} ms. Choose a model.`;
});
