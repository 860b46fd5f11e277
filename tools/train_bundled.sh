#!/usr/bin/env bash
# Trains the bundled checkpoint from nothing: tools/train_bundled.sh OUT CLIP... [-- OPTION...]
# Ten stages, each from the result of the one before; a stage that was interrupted goes on where it stopped.
# OPTIONs go to every stage, such as: -- --device cuda --precision bf16 --workers 8
# docs/model_card.md says what each stage is for, and what it cost.
set -euo pipefail

out=$1; shift
clips=(); options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do clips+=("$1"); shift; done
[ $# -gt 0 ] && shift && options=("$@")
train() { python -m rife train "$out/$1" --clips "${clips[@]}" "${@:2}" ${options[@]+"${options[@]}"}; }
from() { echo --start "$out/$1/rife_comfy.safetensors"; }

# Flow, on rendered motion that grows, then also on clips.
train 1 --steps 2800
# What rests.
rest=(--curriculum 0 --small-until 0 --real-from 0 --flow-weight 0.01)
train 2 $(from 1) "${rest[@]}" --steps 900 --rest 0.25 --real-rest 0.5 --learning-rate 3e-4
train 3 $(from 2) "${rest[@]}" --steps 700 --rest 0.65 --real-rest 0.65 --learning-rate 2e-4
# Large motion, fine detail, stills, flaws, any time.
wide=(--batch 4 --crop 192 --small-until 0 --real-from 0 --max-motion 64 --rest 0.2 --real-rest 0.4 --flaws 0.4
      --reach 8 --any-time --halved 0.4 --stills 0.05 --fades 0.15 --clip-width 864 --learning-rate 3e-4)
train 4 $(from 3) "${wide[@]}" --steps 8000 --curriculum 0.1 --flow-weight 0.03 --ema 0.999
# The solver's flow behind the first block, then also the cross-fade where no flow is right.
train 5 $(from 4) --add variational "${wide[@]}" --steps 1600 --curriculum 0 --flow-weight 0.03
near=("${wide[@]}" --add variational dissolve --curriculum 0 --reach 4 --flow-weight 0.01 --ema 0.999)
train 6 $(from 5) "${near[@]}" --steps 4400 --seed 5
train 7 $(from 6) "${near[@]}" --steps 4000 --seed 7 --learning-rate 2.5e-4
# The mean of two guesses where either may be right, which absolute differences alone do not ask for.
train 8 $(from 7) "${near[@]}" --steps 1300 --seed 9 --learning-rate 2e-4 --mse-weight 60 --ema 0.998
train 9 $(from 8) "${near[@]}" --steps 600 --seed 11 --learning-rate 1.5e-4 --mse-weight 60 --warm-up 30 --ema 0.995
# Without what changes nothing behind the solver: the first block and one at half of the size, which chooses and dissolves.
train 10 $(from 9) --add lean "${wide[@]}" --curriculum 0 --flow-weight 0.01 --mse-weight 60 --steps 6000 --seed 13 \
    --learning-rate 4e-4 --ema 0.999
