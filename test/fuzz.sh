#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other, for the time given;
# what one finds does not keep the others from running.
set -euo pipefail
time=${1:-30s}
failed=()

# A target passes that was fuzzed, beyond the inputs that there are. Go's fuzzer may call it
# a failure that its time was over while it tried an input anew: then no input fails.
fuzz() {
  local log status=0
  log=$(mktemp)
  go test -run '^$' -fuzz "^$1\$" -fuzztime "$time" -fuzzminimizetime 300x "$2" 2>&1 | tee "$log" || status=$?
  if ((status)) && ! grep -q 'Failing input\|failing input\|panic:' "$log" && grep -q '^ *context deadline exceeded$' "$log"; then
    echo "its time was over, and no input failed"
    status=0
  fi
  if ! grep -q 'now fuzzing' "$log"; then
    echo "nothing was fuzzed"
    status=1
  fi
  rm "$log"
  return "$status"
}

files=$(git ls-files '*_test.go' ':!test/' | xargs grep -l '^func Fuzz')
for file in $files; do
  for target in $(grep -oE '^func Fuzz[A-Za-z0-9]+' "$file" | cut -d' ' -f2); do
    echo "== $target (./$(dirname "$file"))"
    fuzz "$target" "./$(dirname "$file")" || failed+=("$target")
  done
done
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}"
  exit 1
fi
