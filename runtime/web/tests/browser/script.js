// Runs at the end of the page, with all that is in it.
const cases = {{cases}};
const truncated = {{truncated}};

const decoded = text => Uint8Array.from(atob(text), character => character.charCodeAt(0));
const canvasPixels = id => [...$(id).getContext("2d").getImageData(0, 0, $(id).width, $(id).height).data];
const waitUntil = async condition => {
  while (!condition()) await new Promise(next => setTimeout(next, 5));
};

/** What one case comes to. */
async function outcome({ name, model, image, settings }) {
  const given = { seed: BigInt(settings.seed) };
  for (const key of ["steps", "stepSize", "temperature"]) given[key] = settings[key] ?? undefined;
  const { bytes, values } = image;
  try {
    await engine.open(decoded(model), name);
    const purified = await engine.purify(bytes ? { bytes: Uint8Array.from(bytes) } : { values: Float32Array.from(values) }, given);
    const { milliseconds } = purified;
    return { values: [...purified.values], bytes: [...purified.bytes], energies: [...purified.energies], milliseconds };
  } catch (error) {
    return { error: error.message };
  }
}

/** What a user sees who clicks a digit, asks for no noise and some settings, and purifies. */
async function clicks() {
  $("noise").value = 0;
  $("seed").value = 5;
  $("steps").value = 25;
  $("samples").children[3].click();
  const clickedDigit = canvasPixels("before");
  $("purify").click();
  await waitUntil(() => !page.isBusy);
  return { clickedDigit, shown: canvasPixels("after") };
}

/** What becomes of a purification that is stopped, and of the next one. */
async function stops() {
  const image = { bytes: Uint8Array.from(cases[0].image.bytes) };
  await engine.open(decoded(cases[0].model), cases[0].name);
  const endless = engine.purify(image, { seed: 0n, steps: 1e9 }, () => engine.stop());
  const stopped = await endless.then(() => null, error => error.message);
  const next = await engine.purify(image, { seed: 0n });
  return { stopped, afterStop: [...next.values] };
}

/** The seeds of two purifications that were given none. */
async function seedsOfTwo() {
  const image = { bytes: Uint8Array.from(cases[0].image.bytes) };
  const purified = [await engine.purify(image, {}), await engine.purify(image, {})];
  return purified.map(({ seed }) => `${seed}`);
}

async function all() {
  const millisecondsToStart = await engine.ready;
  await started;
  const before = performance.now();
  await engine.open(decoded(cases[0].model), cases[0].name);
  const millisecondsToOpen = performance.now() - before;
  const clicked = await clicks();
  const outcomes = [];
  for (const each of cases) outcomes.push(await outcome(each));
  const stopping = await stops();
  const freshSeeds = await seedsOfTwo();
  await attempt(() => openModel(decoded(truncated.model), truncated.name));
  return { millisecondsToStart, millisecondsToOpen, ...clicked, outcomes, ...stopping, freshSeeds, said: $("error").textContent };
}

const tell = body => fetch("http://{{address}}/", { method: "POST", mode: "no-cors", body });
all().then(seen => tell(JSON.stringify(seen)), error => tell(`${error}\n${error.stack}`));
