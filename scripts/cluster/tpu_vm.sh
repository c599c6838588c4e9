#!/bin/bash
# Runs on every worker of a TPU VM slice. From one's own machine, for all workers at once:
#
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
#     --command="cd ltjax && scripts/cluster/tpu_vm.sh --config=configs/lmd.py:imagenet_lt@iccl --config.data.path=DATA --workdir=RUNS/NAME"
#
# Every worker has the repository in ~/ltjax, installed with `pip install -e '.[tpu]'`; DATA and RUNS are on a file system
# that all share. See docs/cluster.md.
set -euo pipefail

attribute() {
  curl -sf -H 'Metadata-Flavor: Google' "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

# Names, or triples such as unknown:unknown:10.0.0.2, by the number of the worker.
IFS=, read -ra workers <<<"$(attribute worker-network-endpoints)"
number=$(attribute agent-worker-number)

exec python -m ltjax.main --coordinator="${workers[0]##*:}:8482" --num_processes="${#workers[@]}" \
  --process_id="$number" "$@"
