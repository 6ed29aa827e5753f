// Runs the library away from the page, so that the page can draw and be clicked meanwhile.
// Messages come as {id, task, ...} and are answered with {id, result} or {id, error}; a purification also tells {id, progress}.

/** Milliseconds of work between two looks at the messages. */
const SLICE = 40;

let model = null;
let stopped = 0;

const tasks = {
  /** Starts the library. */
  load: ({ library }) => wasm_bindgen({ module_or_path: library }).then(() => null),

  /** Opens a model, and prepares it. */
  open({ bytes, name }) {
    const opened = new wasm_bindgen.Model(bytes, name);
    opened.prepare();
    model?.free();
    model = opened;
    return JSON.parse(model.contract());
  },

  /** Purifies `bytes` of a picture, or f32 `values`. */
  async purify({ id, bytes, values, settings }) {
    if (!model) throw new Error("there is no model: choose one first");
    const given = Object.assign(new wasm_bindgen.Settings(), settings);
    const run = values ? model.startValues(values, given) : model.start(bytes, given);
    let milliseconds = 0;
    while (run.stepsDone < run.steps) {
      const started = performance.now();
      while (run.stepsDone < run.steps && performance.now() - started < SLICE) run.advance(run.stepsOfRun);
      milliseconds += performance.now() - started;
      postMessage({ id, progress: { done: run.stepsDone, steps: run.steps, milliseconds, canvas: run.canvas } });
      await new Promise(next => setTimeout(next));
      if (stopped >= id) throw new Error("stopped");
    }
    const { steps, energies, bytes: purified, values: exact, canvas } = run;
    run.free();
    return { steps, energies, bytes: purified, values: exact, canvas, milliseconds, seed: given.seed };
  },
};

onmessage = async ({ data }) => {
  if (data.task === "stop") {
    stopped = data.id;
    return;
  }
  try {
    postMessage({ id: data.id, result: await tasks[data.task](data) });
  } catch (error) {
    const isBroken = error instanceof WebAssembly.RuntimeError;
    const message = isBroken ? `the library broke down (${error.message}): load the page again` : error.message ?? String(error);
    postMessage({ id: data.id, error: message });
  }
};
