#!/usr/bin/env bash
# Reports once that so many requests wait for a workload, until they are reported anew or for 15 s:
#   TOKEN=… examples/push/report.sh http://inference-scaler.keda.svc:4318 smallest lightning-asr 3
# CA=FILE names the CA of the scaler's certificate, for https.
set -euo pipefail
url=$1 namespace=$2 workload=$3 queued=$4
curl ${CA:+--cacert "$CA"} --fail-with-body --silent --show-error --header "Authorization: Bearer $TOKEN" "$url/v1/demand" --data "{
  \"namespace\": \"$namespace\", \"workload\": \"$workload\", \"instance\": \"$(hostname)\",
  \"sequence\": $(date +%s%N), \"timeToLive\": \"15s\",
  \"samples\": [{\"name\": \"demand_queued_requests\", \"value\": $queued}]
}"
