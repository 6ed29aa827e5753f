"""Compares the attacks of `trainer attack` with independent implementations, on a bare classifier.

Each folder holds the results of `trainer attack --classifier CLASSIFIER ...` without `--energy`. The same images are attacked here, within the same bound and
with as many steps and queries: PGD by torchattacks; APGD with both losses and Square by pyautoattack. Written is a table of accuracies in percent; the program
fails if an attack of this project is weaker than its rival by more than `--most` points.

    attacks.py --classifier classifier.onnx --output attacks.md results/eps-0.1 results/eps-0.2 results/eps-0.3

Wanted: numpy, onnx2torch, pyautoattack, safetensors, torch, torchattacks.
"""

import argparse
import json
import pathlib
import sys

import onnx
import torch
import torchattacks
from onnx2torch import convert
from pyautoattack.autopgd_base import APGDAttack
from pyautoattack.square import SquareAttack
from safetensors.torch import load_file

# The attacks that have a rival, by their names in attack.json.
ATTACKS = ("exact", "apgd-ce", "apgd-dlr", "square")
NORMS = {"linf": "Linf", "l2": "L2"}


class OfUnitRange(torch.nn.Module):
    """A classifier of images in [-1, 1] as one of images in [0, 1], which the rivals expect."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images):
        return self.classifier(2 * images - 1)


def rival_attack(name, model, parameters):
    """A function from images in [0, 1] and labels to attacked images."""
    norm, epsilon = parameters["ball"]["norm"], parameters["ball"]["epsilon"]["of_0_to_1"]
    steps, seed = parameters["pgd_steps"], parameters["attack_seed"]
    if name == "exact":
        length = parameters["pgd_step_size"]["of_0_to_1"]
        if norm == "linf":
            return torchattacks.PGD(model, eps=epsilon, alpha=length, steps=steps)
        return torchattacks.PGDL2(model, eps=epsilon, alpha=length, steps=steps)
    if name == "square":
        n_queries = (steps + 1) * parameters["blind_factor"]
        square = SquareAttack(model, norm=NORMS[norm], n_queries=n_queries, eps=epsilon, seed=seed, device="cpu")
        return square.perturb
    loss = name.removeprefix("apgd-")
    apgd = APGDAttack(model, n_iter=steps, norm=NORMS[norm], eps=epsilon, seed=seed, loss=loss, device="cpu")
    return apgd.perturb


def accuracy(model, images, labels):
    """In percent."""
    with torch.no_grad():
        parts = zip(images.split(100), labels.split(100))
        n_right = sum((model(part).argmax(1) == truth).sum().item() for part, truth in parts)
    return 100 * n_right / len(labels)


def rival_accuracy(name, model, images, labels, parameters):
    """Of what the rival made of the images, in batches."""
    torch.manual_seed(parameters["attack_seed"])
    attacked = [
        rival_attack(name, model, parameters)(part, truth).detach()
        for part, truth in zip(images.split(100), labels.split(100))
    ]
    attacked = torch.cat(attacked)
    assert_within(attacked, images, parameters)
    return accuracy(model, attacked, labels)


def assert_within(attacked, images, parameters):
    change = (attacked - images).flatten(1)
    norm = torch.inf if parameters["ball"]["norm"] == "linf" else 2
    largest = torch.linalg.vector_norm(change, norm, dim=1).max().item()
    if largest > parameters["ball"]["epsilon"]["of_0_to_1"] * 1.001 + 1e-6:
        raise ValueError(f"the rival changed an image by {largest}, more than the bound")


def own_accuracy(name, results):
    """Of all images, those that are wrong without an attack counting as wrong; in percent."""
    for attack in results["attacks"]:
        if attack["attack"] == name:
            return 100 * sum(attack["best"]["single"]) / results["n_images"]
    return None


def rows_of(folder, model):
    results = json.loads((folder / "attack.json").read_text())
    if results["purification"] is not None:
        raise ValueError(f"{folder}: expected results of a bare classifier, without --energy")
    if not results["complete"]:
        raise ValueError(f"{folder}: the attack is not complete; give its command again")
    if results["parameters"]["n_in_all"] < results["n_images"]:
        raise ValueError(f"{folder}: expected every image to meet every attack: give --in-all as many as -n")
    tensors = load_file(folder / "attacked.safetensors")
    images, labels = (tensors["clean"] + 1) / 2, tensors["labels"]
    parameters = results["parameters"]
    clean = accuracy(model, images, labels)
    for name in ATTACKS:
        own = own_accuracy(name, results)
        if own is None:
            continue
        rival = rival_accuracy(name, model, images, labels, parameters)
        row = {
            "norm": parameters["ball"]["norm"],
            "epsilon": parameters["ball"]["epsilon"]["of_0_to_1"],
            "images": len(labels),
            "steps": parameters["pgd_steps"],
            "attack": name,
            "clean": clean,
            "own": own,
            "rival": rival,
        }
        print(json.dumps(row), flush=True)
        yield row


def table(rows, classifier):
    lines = [
        f"Accuracy of `{classifier}` in %, under attacks of this project and of independent implementations "
        "(PGD: torchattacks; APGD, Square: pyautoattack).",
        "",
        "| norm | ε of [0, 1] | images | steps | attack | clean | this project | rival | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        difference = row["own"] - row["rival"]
        lines.append(
            f"| {row['norm']} | {row['epsilon']:.4f} | {row['images']} | {row['steps']} | {row['attack']} | {row['clean']:.1f} "
            f"| {row['own']:.1f} | {row['rival']:.1f} | {difference:+.1f} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="folders that `trainer attack` wrote")
    parser.add_argument("--classifier", required=True, type=pathlib.Path, help="ONNX file, from images in [-1, 1] to logits")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="Markdown file of the table; rows go into .json beside it")
    parser.add_argument("--most", type=float, default=1.0, help="largest difference that passes, in points")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = OfUnitRange(convert(onnx.load(arguments.classifier))).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    rows = [row for folder in arguments.folders for row in rows_of(folder, model)]
    arguments.output.write_text(table(rows, arguments.classifier.name))
    arguments.output.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    far = [row for row in rows if row["rival"] - row["own"] < -arguments.most]
    if far:
        sys.exit(f"error: weaker than the rival by more than {arguments.most} points: {far}")


if __name__ == "__main__":
    main()
