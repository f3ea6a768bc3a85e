#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other, for the time given;
# what one finds does not keep the others from running.
set -euo pipefail
time=${1:-30s}
failed=()

# Go's fuzzer may call it a failure that its time was over while it tried an input anew:
# then there is no input that fails.
fuzz() {
  local log
  log=$(mktemp)
  if ! go test -run '^$' -fuzz "^$1\$" -fuzztime "$time" -fuzzminimizetime 300x "$2" 2>&1 | tee "$log"; then
    if grep -q 'Failing input written\|panic:' "$log" || ! grep -q '^ *context deadline exceeded$' "$log"; then
      rm "$log"
      return 1
    fi
    echo "its time was over, and no input failed"
  fi
  rm "$log"
}

for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
  case $file in test/*) continue ;; esac
  for target in $(grep -oE '^func Fuzz[A-Za-z0-9]+' "$file" | cut -d' ' -f2); do
    echo "== $target (./$(dirname "$file"))"
    fuzz "$target" "./$(dirname "$file")" || failed+=("$target")
  done
done
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}"
  exit 1
fi
