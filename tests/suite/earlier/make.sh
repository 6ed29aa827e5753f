#!/bin/sh
# Makes the files beside this script again, with the programs `trainer`, `ebm-export` and `purify` of one revision:
#
#     tests/suite/earlier/make.sh FOLDER_OF_PROGRAMS
#
# The files that are here were made by those of revision 5ba61a0. They stand for what users have written with that
# revision, and are not to be made again when a format changes: then the new programs have to read them as they are.
# `pictures` is what goes in: five grey pictures of 8 × 8 pixels.
set -eu
programs=$(cd "$1" && pwd)
cd "$(dirname "$0")"
PATH=$programs:$PATH
export OMP_NUM_THREADS=1
rm -rf run classifier diverged sampling model purified certificates.jsonl sampled.jsonl

trainer classifier digits-classifier -o classifier --threads 1 \
    --set network.widths=[4,4] --set learning.updates=300 --set learning.batch=32 \
    --set 'learning.learning_rate=[[0,1e-2]]' --set output.checkpoint_every=300
# The learning rate jumps at update 20, so that the run diverges there and goes back once.
trainer classifier digits-classifier -o diverged --threads 1 \
    --set network.widths=[4,4] --set learning.updates=40 --set learning.batch=32 \
    --set 'learning.learning_rate=[[0,1e-2],[20,1e2]]' --set guard.patience=2 --set guard.rate_factor=0.0001 \
    --set output.checkpoint_every=10
trainer fit digits-shortrun -o run --threads 1 \
    --set network.widths=[4,6] --set 'network.activation="silu"' \
    --set generator.network.widths=[6,4] --set generator.network.latent=4 \
    --set learning.updates=6 --set learning.batch=8 --set langevin.steps=4 --set chains.bank=16 \
    --set output.log_every=1 --set output.sample_every=6 --set output.checkpoint_every=3
trainer attack --energy run --classifier classifier --epsilon 0.125 --protocol quick -o run/attack \
    --images 6 --replicas 2 --verify-replicas 3 --pgd-steps 2 --steps 3 --threads 1
trainer sample run -n 24 --steps 10 --threads 1
# Finished once, for its result, and then interrupted behind its first snapshot.
sample='trainer sample run -n 8 --steps 1500 --snapshots 500 --threads 1 -o sampling'
$sample
mv sampling/snapshots.jsonl sampled.jsonl
rm -r sampling
$sample &
until test -e sampling/snapshots/00000500.npz; do :; done
kill -INT $!
wait $! || true
rm sampling/energy.svg sampling/snapshots/*.png
trainer fid --samples run/sampled --reference run --features classifier --snapshot all --threads 1 --json > run/fid.json
for learned in run classifier; do
    ebm-export onnx $learned -o model
done

purify run pictures --model model -o purified --steps 5 --seed 3
purify certify pictures --model model --sigma 0.25 --n 200 --n0 20 --steps 2 --seed 3 --labels none -o certificates.jsonl

# Drawings take more room than all the rest, and nothing reads them again. Locks belong to the process that held them.
find . -name 'diagnostics.*' -delete
find . -name 'trainer.lock' -delete
