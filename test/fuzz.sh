#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other, for the time given.
set -euo pipefail
time=${1:-30s}
for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
  case $file in test/*) continue ;; esac
  for target in $(grep -oE '^func Fuzz[A-Za-z0-9]+' "$file" | cut -d' ' -f2); do
    echo "== $target (./$(dirname "$file"))"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 300x "./$(dirname "$file")"
  done
done
