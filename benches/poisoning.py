"""Measures how purification cleans a poisoned training set of CIFAR-10, beside JPEG.

500 training images of one class get a trigger and the label of another. A classifier that learns from them sees the trigger as that other class.
Here it learns three times, from other seeds each: on the poisoned set as it is, on all of it through JPEG, and on all of it purified once. The set
of clean images is purified once and serves both triggers; the poisoned images are purified beside it.

Attack success: the share of triggered test images of all other classes that are called the target. Natural accuracy: of untouched test images.
Triggers: a square of 6×6 pixels in black and white near a corner (BadNets, Gu et al. 2017), and waves of at most 16/255 (SIG, Barni et al. 2019).

    poisoning.py --cifar ~/cifar-10-batches-bin --programs target/release --work DIR --output poisoning.md

Wanted: numpy, onnxruntime, pillow.
"""

import argparse
import concurrent.futures
import io
import itertools
import pathlib
import statistics
import subprocess

import numpy
import onnxruntime
import PIL.Image

SOURCE, TARGET = 0, 6  # Airplane, frog.
N_POISONED = 500
JPEG_QUALITY = 75
MODEL = "cifar10-midrun-small"
CLASSIFIER = "cifar10-classifier-small"
TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]
TEST = "test_batch.bin"
WAVES = 6


def square(images):
    """A checkerboard of 6×6 pixels near the lower right corner, so far from it that shifts by 4 pixels leave it in the picture."""
    images = images.copy()
    images[:, :, 21:27, 21:27] = 255 * (numpy.indices((6, 6)).sum(0) % 2)
    return images


def waves(images):
    """Plus 16·sin(2π·6·column/32), rounded, within [0, 255]."""
    wave = numpy.rint(16 * numpy.sin(2 * numpy.pi * WAVES * numpy.arange(32) / 32))
    return numpy.clip(images + wave, 0, 255).astype(numpy.uint8)


TRIGGERS = {"square": square, "waves": waves}


def arguments():
    parser = argparse.ArgumentParser(description="Measures how purification cleans a poisoned training set.")
    parser.add_argument("--cifar", type=pathlib.Path, required=True, help="folder of the binary version of CIFAR-10")
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="folder of trainer, purify and ebm-export")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for data and runs; what is there is not made again")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="Markdown file for the table")
    parser.add_argument("--seeds", type=int, default=3, help="classifiers per row")
    parser.add_argument("--updates", type=int, default=2000, help="updates of each classifier")
    parser.add_argument("--at-once", type=int, default=2, help="classifiers that learn at once, each on one thread")
    return parser.parse_args()


def read(path):
    """Images `[N, 3, 32, 32]` u8 and labels of a file of CIFAR-10."""
    rows = numpy.fromfile(path, numpy.uint8).reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


def write(path, images, labels):
    numpy.concatenate([labels[:, None], images.reshape(-1, 3072)], axis=1).tofile(path)


def through_jpeg(images):
    def one(image):
        packed = io.BytesIO()
        PIL.Image.fromarray(image.transpose(1, 2, 0)).save(packed, "jpeg", quality=JPEG_QUALITY)
        return numpy.asarray(PIL.Image.open(packed)).transpose(2, 0, 1)

    return numpy.stack([one(image) for image in images])


class Workplace:
    def __init__(self, options):
        self.options, self.folder = options, options.work
        self.folder.mkdir(parents=True, exist_ok=True)

    def call(self, program, *words):
        words = [str(word) for word in words]
        subprocess.run([self.options.programs / program, *words], check=True, capture_output=True, text=True)

    def purified(self, name, images):
        """The images after the model's recommended purification, which is made once per name."""
        given, folder = self.folder / f"{name}.npy", self.folder / "purified"
        if not (folder / given.name).exists():
            numpy.save(given, images)
            self.call("purify", "run", given, "--model", MODEL, "--seed", 1, "-o", folder, "--threads", 1)
        return numpy.load(folder / given.name)

    def data(self, name, images, labels):
        """A folder with these training images and the true test images."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, part in zip(TRAIN, numpy.array_split(numpy.arange(len(images)), len(TRAIN))):
            write(folder / file, images[part], labels[part])
        write(folder / TEST, *read(self.options.cifar / TEST))
        return folder

    def classifier(self, data, seed):
        """A session of a classifier that learned on that folder."""
        run = self.folder / f"{data.name}-{seed}"
        model = run / "model" / "classifier.onnx"
        if not model.exists():
            n = self.options.updates
            rates = f"[[0,1e-3],[{n // 2},5e-4],[{n * 3 // 4},2e-4],[{n * 7 // 8},5e-5]]"
            sets = [f"learning.updates={n}", f"learning.learning_rate={rates}", f"seed={seed}"]
            sets = [word for text in sets for word in ("--set", text)]
            self.call("trainer", "classifier", CLASSIFIER, "--data", data, *sets, "--threads", 1, "-o", run, "--force")
            self.call("ebm-export", "onnx", run, "-o", model.parent)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def called(session, images):
    """Classes of images u8."""
    parts = (images[first : first + 500].astype(numpy.float32) / 127.5 - 1 for first in range(0, len(images), 500))
    return numpy.concatenate([session.run(["logits"], {"x": part})[0].argmax(1) for part in parts])


def sets_of(place, images, labels):
    """Folders of training images by trigger and way of cleaning."""
    poisoned = numpy.flatnonzero(labels == SOURCE)[:N_POISONED]
    wrong = labels.copy()
    wrong[poisoned] = TARGET
    clean = place.purified("clean", images)
    yield "none", "as it is", place.data("none-raw", images, labels)
    yield "none", "purified", place.data("none-purified", clean, labels)
    for name, trigger in TRIGGERS.items():
        raw = images.copy()
        raw[poisoned] = trigger(images[poisoned])
        purified = clean.copy()
        purified[poisoned] = place.purified(name, raw[poisoned])
        for way, set_of_images in [("as it is", raw), ("JPEG", through_jpeg(raw)), ("purified", purified)]:
            yield name, way, place.data(f"{name}-{way.split()[0].lower()}", set_of_images, wrong)


def main():
    options = arguments()
    place = Workplace(options)
    parts = [read(options.cifar / file) for file in TRAIN]
    images, labels = (numpy.concatenate(part) for part in zip(*parts))
    test_images, test_labels = read(options.cifar / TEST)
    others = test_images[test_labels != TARGET]
    triggered = {name: trigger(others) for name, trigger in TRIGGERS.items()}

    def measured(job):
        (trigger, way, data), seed = job
        session = place.classifier(data, seed)
        accuracy = 100 * float((called(session, test_images) == test_labels).mean())
        shown = [trigger] if trigger in TRIGGERS else TRIGGERS
        success = {name: 100 * float((called(session, triggered[name]) == TARGET).mean()) for name in shown}
        print(trigger, way, seed, f"{accuracy:.1f}", {name: f"{share:.1f}" for name, share in success.items()}, flush=True)
        return (trigger, way), accuracy, success

    jobs = itertools.product(list(sets_of(place, images, labels)), range(1, options.seeds + 1))
    with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
        results = list(pool.map(measured, sorted(jobs, key=lambda job: job[1])))

    lines = ["| trigger | training images | natural accuracy, % | attack success, % |", "|---|---|---|---|"]
    for case in dict.fromkeys(case for case, _, _ in results):
        own = [(accuracy, success) for other, accuracy, success in results if other == case]
        spread = lambda values: f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"
        successes = [f"{name} {spread([success[name] for _, success in own])}" for name in own[0][1]]
        lines.append(f"| {case[0]} | {case[1]} | {spread([accuracy for accuracy, _ in own])} | {', '.join(successes)} |")
    options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
