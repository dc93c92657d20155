# shellcheck shell=bash disable=SC2015,SC2016 # A && B || die is meant; single-quoted programs are for an inner bash
# Processes, ports and folders that belong to one run. Sourced, never executed.
#
# A process is ours when its working folder lies inside the folder that the run owns. The kernel keeps that for us, so a
# stale pid file, a pid used again by a stranger or a server that rewrites its own title can never make us signal the
# wrong process.

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || {
	echo "${0##*/}: bash 4.4 or newer is needed; install it and run this again." >&2
	exit 69
}

readonly EXIT_FAILED=1 EXIT_USAGE=64 EXIT_UNAVAILABLE=69
# Below the kernel's usual range for outgoing connections, so that a client socket cannot take a stopped server's port.
readonly PORT_FIRST=20000 PORT_COUNT=12000
readonly PORT_TRIES=50
readonly CLAIM_TRIES=100 CLAIM_SECONDS=300

say() { printf '%s\n' "$*" >&2; }

# die CODE SENTENCE
die() {
	local code=$1
	shift
	say "${0##*/}: $*"
	exit "$code"
}

# checked_folder PATH prints it absolute with links resolved, or refuses what no configuration file could quote.
checked_folder() {
	local path=$1 parent resolved
	[[ -n $path ]] || die $EXIT_USAGE "the folder's name is empty."
	[[ $path != *[\"\'\\\#\`\$[:cntrl:]]* ]] || die $EXIT_USAGE "the folder's name must not hold quotes, backslashes, #, \$ or control characters."
	[[ $path == /* ]] || path=$PWD/$path
	path=${path%/}
	[[ -n $path ]] || die $EXIT_USAGE "the file system's root cannot be the folder."
	[[ ! -e $path || -d $path ]] || die $EXIT_USAGE "$path is not a folder."
	if [[ -d $path ]]; then
		(cd "$path" && pwd -P) 2>/dev/null || die $EXIT_USAGE "$path cannot be entered."
		return
	fi
	parent=$(dirname "$path")
	if [[ -d $parent ]]; then
		resolved=$(cd "$parent" 2>/dev/null && pwd -P) || die $EXIT_USAGE "$parent cannot be entered."
		parent=$resolved
	fi
	printf '%s/%s\n' "${parent%/}" "$(basename "$path")"
}

# working_folder PID prints where a process stands; a zombie stands nowhere.
working_folder() {
	if [[ -d /proc/self ]]; then
		readlink "/proc/$1/cwd" 2>/dev/null
	else
		lsof -a -p "$1" -d cwd -Fn 2>/dev/null | sed -n 's/^n//p'
	fi
}

# owned PID FOLDER is true while the process lives and is ours.
owned() {
	local pid=$1 folder=$2 where
	[[ $pid =~ ^[1-9][0-9]*$ ]] || return 1
	kill -0 "$pid" 2>/dev/null || return 1
	where=$(working_folder "$pid") || return 1
	[[ $where == "$folder" || $where == "$folder"/* || $where == "$folder (deleted)" ]]
}

# pid_in FILE FOLDER prints the pid that FILE holds if that process is alive and ours, else 0.
pid_in() {
	local pid=0
	if [[ -r $1 ]]; then read -r pid <"$1" || true; fi
	if owned "$pid" "$2"; then printf '%s\n' "$pid"; else printf '0\n'; fi
}

# wait_until SECONDS COMMAND... polls, and is false when the time is over.
wait_until() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < deadline)) || return 1
		sleep 0.05
	done
}

gone() { ! owned "$1" "$2"; }

# end_process PID FOLDER SECONDS asks, waits, then forces. A stranger's pid is left alone.
end_process() {
	local pid=$1 folder=$2 seconds=$3
	owned "$pid" "$folder" || return 0
	kill -TERM "$pid" 2>/dev/null || true
	wait_until "$seconds" gone "$pid" "$folder" && return 0
	kill_process "$pid" "$folder"
}

kill_process() {
	owned "$1" "$2" || return 0
	kill -KILL "$1" 2>/dev/null || true
	wait_until 20 gone "$1" "$2" || die $EXIT_FAILED "process $1 does not end after SIGKILL."
}

# The first two lines of a detached process: no descriptor of the caller (a pipe held open would hang whoever reads it),
# and its working folder, by which it is recognised as ours, before its pid is known to anybody.
readonly DETACH='cd "$1" || exit 1
for fd in /dev/fd/*; do fd=${fd##*/}; [ "$fd" -gt 2 ] && eval "exec $fd>&-" 2>/dev/null; done
record() { printf "%s\n" "$1" >"$2.new" && mv "$2.new" "$2"; }
'

# detach LOG COMMAND... becomes COMMAND in a session of its own. Call it in the background: the redirections must bind the
# background shell itself, which would otherwise keep the caller's descriptors open for as long as the daemon lives.
detach() {
	local session=nohup
	command -v setsid >/dev/null && session=setsid
	exec </dev/null >>"$1" 2>&1
	shift
	exec "$session" "$@"
}

# spawn PIDFILE FOLDER LOG COMMAND... starts a daemon of ours.
spawn() {
	local pidfile=$1 folder=$2 log=$3
	shift 3
	rm -f "$pidfile"
	detach "$log" bash -c "$DETACH"'record $$ "$2"; shift 2; exec "$@"' spawn "$folder" "$pidfile" "$@" &
	wait_until 10 test -s "$pidfile" || die $EXIT_FAILED "$1 could not be started; see $log."
}

# spawn_watched PIDFILE EXITFILE FOLDER LOG COMMAND... is spawn with a small parent that stays to record the exit code.
spawn_watched() {
	local pidfile=$1 exitfile=$2 folder=$3 log=$4
	shift 4
	rm -f "$pidfile" "$exitfile"
	detach "$log" bash -c "$DETACH"'pidfile=$2 exitfile=$3; shift 3
		"$@" & record $! "$pidfile"; wait $!; code=$?; cd /; record "$code" "$exitfile" 2>/dev/null' \
		watch "$folder" "$pidfile" "$exitfile" "$@" &
	wait_until 10 test -s "$pidfile" || die $EXIT_FAILED "$1 could not be started; see $log."
}

# listening PORT is true when somebody accepts connections there.
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# choose_port VARIABLE picks a port nobody listens on now. The pick is a guess, not a claim: whoever uses it tries
# another one when the server cannot bind.
choose_port() {
	local candidate try
	for ((try = 0; try < PORT_TRIES; try++)); do
		candidate=$((PORT_FIRST + (RANDOM * 32768 + RANDOM) % PORT_COUNT))
		if ! listening "$candidate"; then
			printf -v "$1" '%s' "$candidate"
			return
		fi
	done
	die $EXIT_UNAVAILABLE "no free port between $PORT_FIRST and $((PORT_FIRST + PORT_COUNT - 1)) on 127.0.0.1."
}

# http_status ADDRESS PATH prints the status code. Bash alone does it: a bare machine has no curl.
http_status() {
	# shellcheck disable=SC2016 # expanded by the inner bash
	timeout 3 bash -c 'exec 3<>"/dev/tcp/${0%:*}/${0##*:}" || exit 1
		printf "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n" "$1" "$0" >&3
		read -r _ status _ <&3 && printf "%s\n" "$status"' "$1" "$2" 2>/dev/null
}

# claim_folder FOLDER MARKER makes a folder ours, or refuses one that holds somebody else's files, and keeps a lock on
# its marker until the script ends. Another run may make or remove the folder between any two of these lines, so what
# counts is that the marker we locked is still the one in the folder.
claim_folder() {
	local folder=$1 marker=$1/$2 try
	for ((try = 0; try < CLAIM_TRIES; try++)); do
		if [[ -n $(ls -A "$folder" 2>/dev/null) && ! -e $marker && -n $(ls -A "$folder" 2>/dev/null) ]]; then
			die $EXIT_USAGE "$folder holds files that are not ours; name a new or empty folder."
		fi
		if ! mkdir -p "$folder" 2>/dev/null || ! : 2>/dev/null >>"$marker"; then continue; fi
		command -v flock >/dev/null || return 0
		exec 9<"$marker" || continue
		flock -w $CLAIM_SECONDS 9 || die $EXIT_UNAVAILABLE "another run has held $folder for $CLAIM_SECONDS s."
		[[ $marker -ef /dev/fd/9 ]] && return 0
	done
	die $EXIT_UNAVAILABLE "$folder cannot be written."
}

# release_folder FOLDER MARKER removes it, the marker last, so that it is never seen full and unmarked.
release_folder() {
	find "$1" -mindepth 1 -maxdepth 1 ! -name "$2" -exec rm -rf {} +
	rm -f "$1/$2"
	rmdir "$1" 2>/dev/null || [[ ! -d $1 || -e $1/$2 ]] || die $EXIT_FAILED "$1 cannot be removed."
}

# open_token NAME marks what this run starts from now on. A run inside a run adds its mark to the outer one's.
open_token() {
	RUN_TOKEN=$1.$$
	export QUIESCE_RUN=${QUIESCE_RUN:+$QUIESCE_RUN/}$RUN_TOKEN
}

# sweep ends what the run started and lost: every process that inherited its mark, but for this script.
sweep() {
	local environment pid
	[[ -d /proc/self ]] || return 0
	for environment in /proc/[0-9]*/environ; do
		pid=${environment//[!0-9]/}
		[[ $pid != "$$" && $pid != "$BASHPID" ]] || continue
		grep -qzE "^QUIESCE_RUN=(.*/)?${RUN_TOKEN//./\\.}(/|$)" "$environment" 2>/dev/null || continue
		[[ $(readlink "/proc/$pid/exe") != */go ]] || continue # the toolchain's own helpers end by themselves
		say "${0##*/}: ending process $pid, which the run left behind: $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")"
		kill -KILL "$pid" 2>/dev/null || true
	done
}

# find_go sets GO, or says what to install.
find_go() {
	local candidate
	if [[ -n ${GO:-} ]]; then
		command -v "$GO" >/dev/null || die $EXIT_USAGE "GO=$GO is not a command."
		return
	fi
	for candidate in go /usr/local/go/bin/go "$HOME/go/bin/go" /usr/lib/go/bin/go; do
		if command -v "$candidate" >/dev/null; then
			GO=$candidate
			return
		fi
	done
	die $EXIT_UNAVAILABLE "Go is not installed; install Go 1.26 or newer (https://go.dev/dl) and run this again."
}
