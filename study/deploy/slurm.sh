#!/usr/bin/env bash
# A study on Slurm: a Ray head on the first node, one Ray worker on each of the others, the study on the head.
#   sbatch --nodes=4 --gpus-per-node=2 slurm.sh my_study.toml --out /shared/results/my_study
# What stands after the script's name goes to `python -m study.run`. Submit it again after a time limit: what is
# finished is kept, and the study goes on. Activate your environment here or in the shell that submits.
#SBATCH --job-name=wasam-study
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --output=%x-%j.log

set -euo pipefail

# Two jobs may share a node: the ports come from the job's number.
port=$((20000 + SLURM_JOB_ID % 20000))
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}'):$port
cpus=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}

# Ray's sockets need a short path on a local disk, and Slurm's TMPDIR is often long or shared.
export RAY_TMPDIR=${RAY_TMPDIR:-/tmp/ray-$SLURM_JOB_ID}

# Everybody on the network could run code on an open cluster. The token is this job's own.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

# start_ray NODE OPTION…: keep Ray in the foreground of a job step, so that Slurm ends it with the job.
start_ray() {
  local node=$1
  shift
  srun --nodes=1 --ntasks=1 --nodelist="$node" --overlap \
    ray start --block --num-cpus="$cpus" --num-gpus="$gpus" "$@" &
}

start_ray "$head" --head --node-ip-address="${address%:*}" --port="$port" --include-dashboard=true
for node in "${nodes[@]:1}"; do
  start_ray "$node" --address="$address"
done

# The study takes what is there when it starts: wait until every node has joined.
wanted=${#nodes[@]}
for _ in $(seq 60); do
  joined=$(RAY_ADDRESS=$address python -c '
import ray
ray.init(log_to_driver=False, logging_level="error")
print(sum(node["Alive"] for node in ray.nodes()))' 2>/dev/null || echo 0)
  [ "$joined" -ge "$wanted" ] && break
  sleep 5
done
if [ "$joined" -lt "$wanted" ]; then
  echo "only $joined of $wanted nodes joined the Ray cluster; see the log above" >&2
  exit 1
fi

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  python -m study.run "$@" --address "$address" --storage "${STUDY_STORAGE:-$HOME/.cache/wasam-study/ray}"
