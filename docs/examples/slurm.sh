#!/usr/bin/env bash
# Train a FocalNet and explain it on two nodes with four GPUs each: sbatch docs/examples/slurm.sh path/to/ESC-50
#
# The data, the cache and the results must lie where all nodes see them. A job that is stopped or runs out of time goes
# on where its last checkpoint (ckpt_interval_minutes) was when it is submitted again, with as many GPUs as there are.
#SBATCH --job-name=earwitness
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=02:00:00
#SBATCH --requeue
set -euo pipefail
. .venv/bin/activate

DATA=${1:?give the path of ESC-50}
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# one task a node; torchrun starts one process for each of its GPUs
distributed() {
    srun torchrun --nnodes="$SLURM_NNODES" --nproc_per_node="$SLURM_GPUS_ON_NODE" \
        --rdzv_backend=c10d --rdzv_id="$SLURM_JOB_ID" --rdzv_endpoint="$HEAD:29500" "$@"
}

# batch_size counts the clips of all GPUs together and must be a multiple of their number
distributed train.py hparams/focalnet.yaml --data_folder="$DATA" --batch_size=16 --precision=bf16
distributed interpret.py hparams/modulation.yaml --data_folder="$DATA" --quantile=[0.5,0.7,0.9,0.95]
