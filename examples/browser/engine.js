// The library in a worker, as promises.

/** Text that was packed with gzip and base64, as bytes. */
async function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The runtime, in a worker of its own. */
class Engine {
  #worker;
  #waiting = new Map();
  #lastId = 0;
  /** Fulfilled with the milliseconds that it took to start. */
  ready;

  constructor() {
    const script = document.getElementById("worker").textContent;
    // A page that was opened from a disk may start workers from blobs only.
    this.#worker = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
    this.#worker.onmessage = ({ data }) => this.#answer(data);
    this.#worker.onerror = event => this.#fail(event.message || "the library broke down: load the page again");
    this.ready = this.#load();
  }

  async #load() {
    const started = performance.now();
    const library = await unpacked(document.getElementById("library").textContent);
    await this.#ask("load", { library });
    return performance.now() - started;
  }

  /** Opens the bytes of a model and returns its contract. */
  async open(bytes, name) {
    await this.ready;
    return this.#ask("open", { bytes, name });
  }

  /** Purifies `{bytes}` or `{values}` of an image; `settings` may have seed, steps, stepSize and temperature; without a seed there is a fresh one. */
  async purify(image, settings, onProgress = () => {}) {
    await this.ready;
    return this.#ask("purify", { ...image, settings }, onProgress);
  }

  /** Ends the purifications that are running, with the error "stopped". */
  stop() {
    this.#worker.postMessage({ id: this.#lastId, task: "stop" });
  }

  #ask(task, message, onProgress) {
    const id = ++this.#lastId;
    return new Promise((fulfil, reject) => {
      this.#waiting.set(id, { fulfil, reject, onProgress });
      this.#worker.postMessage({ id, task, ...message });
    });
  }

  #answer({ id, progress, result, error }) {
    const waiting = this.#waiting.get(id);
    if (progress) return waiting.onProgress(progress);
    this.#waiting.delete(id);
    return error === undefined ? waiting.fulfil(result) : waiting.reject(new Error(error));
  }

  #fail(message) {
    for (const { reject } of this.#waiting.values()) reject(new Error(message));
    this.#waiting.clear();
  }
}
