#!/usr/bin/env bash
# Checks everything that needs no test to run. `make lint` calls it from the
# repository's root. Every check runs, whatever the ones before it have found;
# the exit status is 1 if any has failed.
set -uo pipefail

failed=()

# check runs a command under a name and remembers whether it failed.
check() {
	local name=$1
	shift
	echo "== $name"
	"$@" || failed+=("$name")
}

within() (
	cd "$1" && "${@:2}"
)

formatted() {
	local files
	files=$("$bin/gofumpt" -l .) || return
	if [[ -n $files ]]; then
		echo "not formatted; run: bin/gofumpt -w ."
		echo "$files"
		return 1
	fi
}

# generated checks that the committed Go is what the .proto makes.
generated() {
	local out
	out=$(mktemp -d) || return
	"$bin/buf" generate --output "$out" && diff -r --exclude=doc.go --exclude='*.proto' proto "$out/proto"
	local status=$?
	rm -rf "$out"
	return "$status"
}

# govulncheck exits with 3 on a finding and with 1 on any error. An unreachable
# database is the one error that says nothing about the code.
vulnerabilities() {
	local out status
	out=$("$bin/govulncheck" ./... 2>&1)
	status=$?
	if ((status == 1)) && grep -q '^govulncheck: fetching vulnerabilities: ' <<<"$out"; then
		echo "govulncheck: database unreachable, not checked"
		return
	fi
	echo "$out"
	return "$status"
}

vale() {
	"$bin/vale" --no-global --no-wrap "$@"
}

# style checks the rules themselves: what they find in a sample.
style() {
	diff -u test/vale/testdata/sample.found <(vale --output=line --ext=.go <test/vale/testdata/sample.go)
}

# Without VCS stamps, a commit does not link the tools again.
go -C test/tools build -buildvcs=false -o ../../bin/ tool || exit 1
# Vale includes parsers in C; -w hides the warnings of their generated code.
CGO_ENABLED=1 CGO_CFLAGS='-O2 -w' go -C test/vale build -buildvcs=false -o ../../bin/ tool || exit 1
bin=$PWD/bin

modules=(.)
for dir in test/keda test/e2e test/scheduler test/hpa test/chart test/image test/bench; do
	[[ -f $dir/go.mod ]] && modules+=("$dir")
done

# With the flags of their tests, so that what a nested module needs is compiled
# once: it is all of Kubernetes and KEDA.
export CGO_ENABLED=0 GOFLAGS=-trimpath
for dir in "${modules[@]}"; do
	check "go vet $dir" go -C "$dir" vet ./...
done
check gofumpt formatted
for dir in "${modules[@]}"; do
	check "golangci-lint $dir" within "$dir" "$bin/golangci-lint" run --allow-serial-runners ./...
done
check "buf lint" "$bin/buf" lint
check "generated Go of proto" generated
check "helm lint" go -C test/chart test -vet=off -run '^TestLint$' ./...
check "language of Markdown and comments" vale .
check "style of test/vale" style
check govulncheck vulnerabilities

if ((${#failed[@]})); then
	printf 'failed: %s\n' "${failed[@]}"
	exit 1
fi
