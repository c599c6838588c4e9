#!/bin/bash
# sbatch scripts/cluster/slurm.sh --config=configs/lmd.py:imagenet_lt@iccl --config.data.path=DATA --workdir=runs/NAME
# From the root of the repository, in an environment with ltjax; the workdir on a file system that all nodes share.
# See docs/cluster.md.

#SBATCH --job-name=ltjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --output=ltjax-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120

# A process that fails ends the others itself, with its error: SLURM need not kill them before they have said it.
srun --kill-on-bad-exit=0 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" python -m ltjax.main "$@"
status=$?

# 75: told to stop before the end, and saved; the run goes on where it was.
if [[ $status == 75 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
