#!/usr/bin/env bash
# A local Quiesce cluster of real processes on a private pair of servers, for a look around, for tests and for the demo.
# shellcheck disable=SC2015 # "test && step || die" is meant: die when either fails
set -euo pipefail
umask 077

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/process.sh
. "$REPOSITORY/scripts/process.sh"

readonly SERVICES=$REPOSITORY/scripts/services.sh
readonly MARKER=.quiesce-cluster
readonly NODES_DEFAULT=3 NODES_MAX=7
readonly READY_SECONDS=90
readonly TERM_SECONDS=90 # a node may wait for a peer before it dares to stop
readonly DOWN_SECONDS=10
readonly UP_TRIES=4 # each with other ports

usage() {
	cat <<'USAGE'
usage: scripts/cluster.sh COMMAND

  up [--nodes N] [--log-store wal|boltdb]   build the node, start the servers and N nodes (default 3), wait until all are ready
  down                     end all of it and remove its folder
  status [--json]          who runs where
  logs [NODE] [-f]         what the nodes said; -f follows
  kill NODE...             SIGKILL
  term NODE...             SIGTERM to all of them; waits, prints the exit codes, fails unless each is 0
  start NODE...            start them again and wait until they are ready
  stop-redis, kill-redis, start-redis, stop-mysql, kill-mysql, start-mysql
                           the same for the servers, on the ports they had
  demo [--json]            the main job from end to end, in a folder of its own; needs nothing running

environment
  QUIESCE_DIR=FOLDER       where it all lives (default: .data/cluster in the repository)
USAGE
}

main() {
	local command=${1:-}
	[[ $# -eq 0 ]] || shift
	case $command in
	-h | --help | help)
		usage
		return
		;;
	up | down | status | logs | kill | term | start | demo) ;;
	stop-redis | kill-redis | start-redis | stop-mysql | kill-mysql | start-mysql)
		locate
		servers "$command" "$@"
		return
		;;
	'') die $EXIT_USAGE "name a command; 'scripts/cluster.sh help' lists them." ;;
	*) die $EXIT_USAGE "unknown command '$command'; 'scripts/cluster.sh help' lists them." ;;
	esac
	locate
	"command_$command" "$@"
}

locate() { DIR=$(checked_folder "${QUIESCE_DIR:-$REPOSITORY/.data/cluster}"); }

need_cluster() {
	[[ -e $DIR/$MARKER && -e $DIR/nodes ]] || die $EXIT_UNAVAILABLE "there is no cluster in $DIR; start one with: scripts/cluster.sh up"
}

# need_nodes COMMAND NODE... refuses a node that the cluster does not have.
need_nodes() {
	local command=$1 node
	shift
	(($#)) || die $EXIT_USAGE "$command takes a node, such as n1."
	need_cluster
	for node in "$@"; do
		[[ -n $node && $node != *[[:space:]]* && " $(node_ids | paste -sd ' ' -) " == *" $node "* ]] || die $EXIT_USAGE "there is no node '$node'; the nodes are: $(node_ids | paste -sd ' ' -)"
	done
}

servers() {
	[[ $# -eq 1 ]] || die $EXIT_USAGE "$1 takes no argument."
	need_cluster
	"$SERVICES" "$1" "$DIR/services"
}

# ---- up and down

command_up() {
	local count=$NODES_DEFAULT log_store=wal
	while (($#)); do
		case $1 in
		--nodes) [[ $# -ge 2 ]] && count=$2 && shift 2 || die $EXIT_USAGE "--nodes needs a number." ;;
		--nodes=*) count=${1#*=} && shift ;;
		--log-store) [[ $# -ge 2 ]] && log_store=$2 && shift 2 || die $EXIT_USAGE "--log-store needs wal or boltdb." ;;
		--log-store=*) log_store=${1#*=} && shift ;;
		*) die $EXIT_USAGE "up does not know '$1'; it takes --nodes N and --log-store wal|boltdb." ;;
		esac
	done
	[[ $count =~ ^[1-9]$ ]] && ((count <= NODES_MAX)) || die $EXIT_USAGE "--nodes takes a number from 1 to $NODES_MAX, not '$count'."
	[[ $log_store == wal || $log_store == boltdb ]] || die $EXIT_USAGE "--log-store takes wal or boltdb, not '$log_store'."
	claim_folder "$DIR" $MARKER
	if [[ -e $DIR/nodes ]]; then
		[[ $(node_ids | wc -l) -eq $count ]] || die $EXIT_USAGE "the cluster in $DIR has another number of nodes; run scripts/cluster.sh down first."
	fi
	build_node
	"$SERVICES" up "$DIR/services"
	if [[ -e $DIR/nodes ]]; then
		start_missing || die $EXIT_FAILED "the cluster did not become ready again; what runs was left running."
	else
		form "$count" "$log_store"
	fi
	status_table
}

build_node() {
	find_go
	say "building bin/quiesce-node..."
	# The cluster keeps a binary of its own: a later build must not change what a running cluster starts again.
	(cd "$REPOSITORY" && "$GO" build -o "$DIR/quiesce-node.new" ./cmd/node) || die $EXIT_FAILED "the node does not build."
	mkdir -p "$REPOSITORY/bin"
	cp "$DIR/quiesce-node.new" "$REPOSITORY/bin/quiesce-node.$$"
	mv -f "$REPOSITORY/bin/quiesce-node.$$" "$REPOSITORY/bin/quiesce-node"
	mv -f "$DIR/quiesce-node.new" "$DIR/quiesce-node"
}

# form COUNT LOG-STORE makes the first configuration. All ports must be known before the first node starts, so when
# somebody takes one in between, all of it is done again with others.
form() {
	local try
	forget_nodes # of an earlier attempt that was cut short
	for ((try = 1; try <= UP_TRIES; try++)); do
		choose_nodes "$1" "$2"
		start_missing && mv "$DIR/nodes.new" "$DIR/nodes" && return
		grep -qi 'address already in use' "$DIR"/n*/node.log || break
		say "a port was taken meanwhile; trying others..."
		forget_nodes
	done
	give_up "the cluster did not become ready"
}

forget_nodes() {
	end_nodes
	rm -rf "$DIR"/n[1-9]
}

give_up() {
	end_nodes
	"$SERVICES" down "$DIR/services"
	die $EXIT_FAILED "$1; the nodes' logs are kept below $DIR until scripts/cluster.sh down."
}

nodes_file() { if [[ -e $DIR/nodes ]]; then printf '%s\n' "$DIR/nodes"; else printf '%s\n' "$DIR/nodes.new"; fi; }
node_ids() { cut -d ' ' -f 1 "$(nodes_file)" 2>/dev/null || true; }

# node_addresses NODE sets http and peer.
node_addresses() { read -r _ http peer < <(grep "^$1 " "$(nodes_file)"); }

choose_nodes() {
	local count=$1 log_store=$2 i port ports=()
	while ((${#ports[@]} < 2 * count)); do
		choose_port port
		[[ " ${ports[*]} " == *" $port "* ]] || ports+=("$port")
	done
	for ((i = 1; i <= count; i++)); do
		printf 'n%s 127.0.0.1:%s 127.0.0.1:%s\n' "$i" "${ports[2 * i - 2]}" "${ports[2 * i - 1]}"
	done >"$DIR/nodes.new"
	for ((i = 1; i <= count; i++)); do write_configuration "n$i" "$log_store"; done
}

# service_value KEY reads one word of what services.sh env prints.
service_value() { (eval "$("$SERVICES" env "$DIR/services")" && printf '%s\n' "${!1}"); }

write_configuration() {
	local node=$1 log_store=$2 http peer id
	node_addresses "$node"
	mkdir -p "$DIR/$node"
	{
		printf 'node_id: %s\ndata_dir: "%s"\nhttp_addr: %s\npeer_addr: %s\n' "$node" "$DIR/$node/data" "$http" "$peer"
		printf 'log_store: %s\nlog_format: text\nexpect:\n' "$log_store"
		while read -r id _ peer; do printf '  - {id: %s, peer_addr: "%s"}\n' "$id" "$peer"; done <"$DIR/nodes.new"
		printf 'sources:\n  main: {dsn: "%s"}\n' "$(service_value QUIESCE_TEST_MYSQL_DSN)"
		printf 'targets:\n  cache: {addr: "%s"}\n' "$(service_value QUIESCE_TEST_REDIS_ADDR)"
	} >"$DIR/$node/config.yaml"
}

# start_missing starts the nodes that do not run, and is true when all are ready.
start_missing() {
	local node
	for node in $(node_ids); do start_node "$node"; done
	for node in $(node_ids); do wait_ready "$node" || return 1; done
}

start_node() {
	[[ $(node_pid "$1") == 0 ]] || return 0
	spawn_watched "$DIR/$1/pid" "$DIR/$1/exit" "$DIR/$1" "$DIR/$1/node.log" "$DIR/quiesce-node" --config "$DIR/$1/config.yaml"
}

node_pid() { pid_in "$DIR/$1/pid" "$DIR/$1"; }
node_ready() { [[ $(http_status "$http" /readyz) == 200 ]]; }
node_ready_or_gone() { node_ready || [[ $(node_pid "$1") == 0 ]]; }

wait_ready() {
	local http peer
	node_addresses "$1"
	if wait_until $READY_SECONDS node_ready_or_gone "$1" && [[ $(node_pid "$1") != 0 ]]; then return 0; fi
	tail -n 10 "$DIR/$1/node.log" >&2
	if [[ $(node_pid "$1") == 0 ]]; then
		say "$1 ended with code $(exit_code "$1"); its last lines are above."
	else
		say "$1 was not ready within $READY_SECONDS s; its last lines are above."
	fi
	return 1
}

# exit_code NODE prints what its small parent recorded.
exit_code() {
	if wait_until 5 test -s "$DIR/$1/exit"; then cat "$DIR/$1/exit"; else printf 'unknown\n'; fi
}

# end_nodes asks all at once: nodes that stop together stop in place, and nothing of this cluster is needed again.
end_nodes() {
	local node pid
	for node in $(node_ids); do
		pid=$(node_pid "$node")
		[[ $pid == 0 ]] || kill -TERM "$pid" 2>/dev/null || true
	done
	for node in $(node_ids); do
		pid=$(node_pid "$node")
		[[ $pid != 0 ]] || continue
		wait_until $DOWN_SECONDS gone "$pid" "$DIR/$node" || kill_process "$pid" "$DIR/$node"
		exit_code "$node" >/dev/null
	done
}

command_down() {
	[[ $# -eq 0 ]] || die $EXIT_USAGE "down takes no argument."
	[[ -e $DIR ]] || return 0
	[[ -e $DIR/$MARKER ]] || die $EXIT_USAGE "$DIR was not made by this script; it is left alone."
	claim_folder "$DIR" $MARKER
	end_nodes
	"$SERVICES" down "$DIR/services"
	release_folder "$DIR" $MARKER
}

# ---- one node

command_kill() {
	need_nodes kill "$@"
	local node
	need_running "$@"
	for node in "$@"; do
		kill_process "$(node_pid "$node")" "$DIR/$node"
		say "$node was killed."
	done
}

need_running() {
	local node
	for node in "$@"; do
		[[ $(node_pid "$node") != 0 ]] || die $EXIT_FAILED "$node does not run."
	done
}

command_term() {
	need_nodes term "$@"
	local node pid pids=() failed=0
	need_running "$@"
	for node in "$@"; do
		pid=$(node_pid "$node")
		pids+=("$pid")
		kill -TERM "$pid"
	done
	for node in "$@"; do
		wait_until $TERM_SECONDS gone "${pids[0]}" "$DIR/$node" || die $EXIT_FAILED "$node still runs $TERM_SECONDS s after SIGTERM; 'scripts/cluster.sh kill $node' ends it."
		pids=("${pids[@]:1}")
		printf '%s exited with code %s\n' "$node" "$(exit_code "$node")"
		[[ $(exit_code "$node") == 0 ]] || failed=1
	done
	((!failed)) || exit $EXIT_FAILED
}

command_start() {
	need_nodes start "$@"
	local node
	for node in "$@"; do start_node "$node"; done
	for node in "$@"; do
		wait_ready "$node" || die $EXIT_FAILED "$node did not become ready; see $DIR/$node/node.log."
		say "$node is ready."
	done
}

command_logs() {
	local node='' follow=() argument files=()
	for argument in "$@"; do
		case $argument in
		-f) follow=(-f) ;;
		-*) die $EXIT_USAGE "logs does not know '$argument'; it takes a node and -f." ;;
		*)
			[[ -z $node ]] || die $EXIT_USAGE "logs takes one node at most."
			node=$argument
			;;
		esac
	done
	if [[ -n $node ]]; then
		need_nodes logs "$node"
		files=("$DIR/$node/node.log")
	else
		[[ -e $DIR/$MARKER ]] || need_cluster
		files=("$DIR"/n[1-9]/node.log)
		[[ -e ${files[0]} ]] || die $EXIT_UNAVAILABLE "no node has run in $DIR yet."
	fi
	exec tail -n +1 "${follow[@]}" "${files[@]}"
}

# ---- status

command_status() {
	local json=0
	case ${1:-} in
	'') ;;
	--json) json=1 ;;
	*) die $EXIT_USAGE "status does not know '$1'; it takes --json." ;;
	esac
	[[ $# -le 1 ]] || die $EXIT_USAGE "status takes --json and nothing else."
	need_cluster
	if ((json)); then status_json; else status_table; fi
}

status_table() {
	local node http peer pid state
	printf '%-5s %-10s %-22s %-22s %-8s %s\n' NODE STATE HTTP PEER PID DATA
	for node in $(node_ids); do
		node_addresses "$node"
		pid=$(node_pid "$node")
		if [[ $pid == 0 ]]; then state=stopped; elif node_ready; then state=ready; else state='not ready'; fi
		printf '%-5s %-10s %-22s %-22s %-8s %s\n' "$node" "$state" "http://$http" "$peer" "${pid/#0/-}" "$DIR/$node/data"
	done
	printf '\nmysql  %s:%s, database %s (account and password: scripts/cluster.sh status --json)\n' \
		"$(service_value QUIESCE_TEST_MYSQL_HOST)" "$(service_value QUIESCE_TEST_MYSQL_PORT)" "$(service_value QUIESCE_TEST_MYSQL_DATABASE)"
	printf 'redis  %s\n' "$(service_value QUIESCE_TEST_REDIS_ADDR)"
}

status_json() {
	local node http peer pid ready comma=''
	printf '{\n  "dir": "%s",\n  "nodes": [' "$DIR"
	for node in $(node_ids); do
		node_addresses "$node"
		pid=$(node_pid "$node") ready=false
		if [[ $pid != 0 ]] && node_ready; then ready=true; fi
		printf '%s\n    {"id": "%s", "http_addr": "%s", "peer_addr": "%s", "pid": %s, "ready": %s, "data_dir": "%s", "log": "%s"}' \
			"$comma" "$node" "$http" "$peer" "$pid" "$ready" "$DIR/$node/data" "$DIR/$node/node.log"
		comma=,
	done
	printf '\n  ],\n'
	# The services' own description is one JSON object; its members join ours.
	sed -e 1d "$DIR/services/services.json"
}

# ---- demo

command_demo() {
	local json=''
	case ${1:-} in
	'') ;;
	--json) json=--json ;;
	*) die $EXIT_USAGE "demo does not know '$1'; it takes --json." ;;
	esac
	[[ $# -le 1 ]] || die $EXIT_USAGE "demo takes --json and nothing else."
	find_go
	mkdir -p "$REPOSITORY/.data"
	DEMO=$(mktemp -d "$REPOSITORY/.data/demo.XXXXXX")
	open_token "$(basename "$DEMO")"
	export QUIESCE_DIR=$DEMO/cluster
	DEMO_PID=''
	trap end_demo EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	(cd "$REPOSITORY" && "$GO" build -o "$DEMO/demo" ./cluster_test/demo) || die $EXIT_FAILED "the demo does not build."
	"$REPOSITORY/scripts/cluster.sh" up >&2 & # in the background, so that a signal is not held back until it is done
	DEMO_PID=$!
	wait $DEMO_PID || die $EXIT_FAILED "the demo's cluster did not start."
	GO=$GO "$DEMO/demo" --script "$REPOSITORY/scripts/cluster.sh" --dir "$QUIESCE_DIR" ${json:+"$json"} &
	DEMO_PID=$!
	wait $DEMO_PID
}

end_demo() {
	local code=$?
	trap - EXIT
	trap '' INT TERM HUP # the rest must happen
	set +e
	if [[ -n $DEMO_PID ]] && kill -TERM "$DEMO_PID" 2>/dev/null; then
		wait_until $DOWN_SECONDS process_gone "$DEMO_PID" || kill -KILL "$DEMO_PID" 2>/dev/null
	fi
	"$REPOSITORY/scripts/cluster.sh" down
	sweep
	rm -rf "$DEMO"
	exit "$code"
}

process_gone() { ! kill -0 "$1" 2>/dev/null; }

main "$@"
