#!/usr/bin/env bash
# The whole check of this repository: format, vet, build, and every test with the race detector on real servers.
# Arguments go to go test; without a package among them it is all packages.
set -euo pipefail

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/process.sh
. "$REPOSITORY/scripts/process.sh"

readonly TIMEOUT=20m

main() {
	if [[ ${1:-} == -h || ${1:-} == --help ]]; then
		printf 'usage: scripts/test.sh [GO-TEST-ARGUMENT...]\n'
		return
	fi
	cd "$REPOSITORY"
	find_go
	open_run
	check_format
	step "vet"
	"$GO" vet ./...
	step "build"
	"$GO" build ./...
	step "servers"
	"$REPOSITORY/scripts/services.sh" up "$RUN/services"
	export QUIESCE_TEST_SERVICES=$RUN/services/services.json
	run_tests "$@"
}

step() { printf '== %s\n' "$*"; }

# open_run gives the run a folder and a token of its own. Test binaries that are killed by their own timeout clean up
# nothing; whatever they leave lies in that folder, or carries that token.
open_run() {
	RUN=$(mktemp -d "${TMPDIR:-/tmp}/quiesce-test.XXXXXX")
	RUN=$(cd "$RUN" && pwd -P)
	mkdir "$RUN/tmp"
	open_token "$(basename "$RUN")"
	TESTS_PID=''
	trap close_run EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

close_run() {
	local code=$? marker
	trap - EXIT
	trap '' INT TERM HUP # the rest must happen
	set +e
	if [[ -n $TESTS_PID ]]; then kill -TERM "$TESTS_PID" 2>/dev/null && wait "$TESTS_PID"; fi
	for marker in "$RUN"/services/.quiesce-services "$RUN"/tmp/*/.quiesce-services; do
		if [[ -e $marker ]]; then "$REPOSITORY/scripts/services.sh" down "${marker%/*}"; fi
	done
	sweep
	chmod -R u+w "$RUN" 2>/dev/null
	rm -rf "$RUN"
	exit "$code"
}

check_format() {
	local gofmt unformatted
	step "format"
	gofmt=$(type -P gofmt || printf '%s/bin/gofmt' "$("$GO" env GOROOT)")
	unformatted=$(find . \( -name .data -o -name .git -o -name bin \) -prune -o -name '*.go' -print0 | xargs -0 "$gofmt" -l)
	[[ -z $unformatted ]] || die $EXIT_FAILED "run gofmt -w on: ${unformatted//$'\n'/ }"
}

run_tests() {
	local argument race=() packages=(./...)
	for argument in "$@"; do
		if [[ $argument == ./* || $argument == */... || $argument == github.com/* ]]; then packages=(); fi
	done
	if c_compiler; then
		export CGO_ENABLED=1
		race=(-race)
	else
		say "!! No C compiler: THE RACE DETECTOR IS OFF in this run. Install gcc and libc6-dev (or your system's like) for a full one."
	fi
	step "test"
	TMPDIR=$RUN/tmp "$GO" test "${race[@]}" -shuffle=on -timeout "$TIMEOUT" "${packages[@]}" "$@" &
	TESTS_PID=$!
	wait "$TESTS_PID"
}

# c_compiler is true when the race detector can be linked; root may install what is missing.
c_compiler() {
	compiles && return
	((EUID == 0)) && command -v apt-get >/dev/null || return 1
	say "installing gcc for the race detector (once)..."
	{ install_compiler || { apt-get -q update && install_compiler; }; } >/dev/null 2>&1 </dev/null
	compiles
}

install_compiler() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends gcc libc6-dev
}

compiles() {
	local compiler
	compiler=$(CGO_ENABLED=1 "$GO" env CC)
	# shellcheck disable=SC2086 # CC may hold flags
	printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | $compiler -x c -o "$RUN/tmp/compiles" - -lpthread 2>/dev/null
}

main "$@"
