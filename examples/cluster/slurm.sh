#!/bin/bash
# A run in 16 shards as an array of Slurm jobs. From the folder of this file:
#
#     JOB=$(sbatch --parsable slurm.sh)
#     sbatch --dependency=afterany:$JOB --wrap 'simkit store merge ~/harvest/shards/* --into ~/harvest/store'
#
# A job that was preempted or failed goes on where it stopped when it is started again, with the same number:
#
#     sbatch --array=3,7 slurm.sh
#
#SBATCH --job-name=harvest
#SBATCH --array=1-16
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120

set -eu

SHARDS=${SHARDS:-16} # not SLURM_ARRAY_TASK_COUNT, which is smaller when a part of the array is started again
TASKS=${TASKS:-1000}
RESULTS=${RESULTS:-$HOME/harvest}
CALLS_PER_MINUTE=${CALLS_PER_MINUTE:-9600} # of all shards together: no shard knows what the others do

exec simkit run josh --name harvest --seed 7 --tasks "$TASKS" \
    --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" \
    --store "$RESULTS/shards/$SLURM_ARRAY_TASK_ID" \
    --workers "$SLURM_CPUS_PER_TASK" \
    --rpm $((CALLS_PER_MINUTE / SHARDS)) --quiet
