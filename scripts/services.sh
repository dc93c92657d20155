#!/usr/bin/env bash
# A private, throw-away pair of servers (MariaDB or MySQL, Redis or Valkey) on free loopback ports, with all their data
# in one folder. Never the machine's own servers: nothing here talks to a process it did not start.
# shellcheck disable=SC2031 # packages.sh sets its variables here, and other values only in subshells
set -euo pipefail
umask 077

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/process.sh
. "$REPOSITORY/scripts/process.sh"
# shellcheck source=scripts/packages.sh
. "$REPOSITORY/scripts/packages.sh"

readonly MARKER=.quiesce-services
readonly DATABASE=quiesce_demo USER_NAME=quiesce
readonly BIND_TRIES=8
readonly MYSQL_START_SECONDS=120 MYSQL_STOP_SECONDS=60
readonly DOWN_SECONDS=10
readonly REDIS_START_SECONDS=30 REDIS_STOP_SECONDS=15
readonly SOCKET_PATH_BYTES_MAX=100 # the kernel's limit is 108 with its terminator, 104 on BSD

usage() {
	cat <<'USAGE'
usage: scripts/services.sh COMMAND DIR

  up DIR            start a pair with its data in DIR; what already runs there is left running
  down DIR          end the pair and remove DIR
  env DIR           print shell exports that point at the pair (DIR/services.json says the same to programs)
  stop-redis DIR    SIGTERM        stop-mysql DIR    SIGTERM
  kill-redis DIR    SIGKILL        kill-mysql DIR    SIGKILL
  start-redis DIR   same port, empty: it keeps nothing on disk
  start-mysql DIR   same port, same data
  shared-dir        print the folder of the pair that test binaries share when nobody gives them one

environment
  MYSQLD=PATH, REDIS_SERVER=PATH   use these programs
  QUIESCE_SERVICES=WAY             installed, install or unpack: allow only this way to get the programs
  QUIESCE_CACHE=FOLDER             where packages are unpacked (default: .data/packages in the repository)
USAGE
}

main() {
	local command=${1:-}
	case $command in
	-h | --help | help)
		usage
		return
		;;
	shared-dir)
		[[ $# -eq 1 ]] || die $EXIT_USAGE "shared-dir takes no argument."
		printf '%s/quiesce-services-%s\n' "$(cd "${TMPDIR:-/tmp}" && pwd -P)" "$EUID"
		return
		;;
	up | down | env | stop-redis | kill-redis | start-redis | stop-mysql | kill-mysql | start-mysql) ;;
	'') die $EXIT_USAGE "name a command and a folder; 'scripts/services.sh help' lists them." ;;
	*) die $EXIT_USAGE "unknown command '$command'; 'scripts/services.sh help' lists them." ;;
	esac
	[[ $# -eq 2 ]] || die $EXIT_USAGE "$command takes exactly one folder."
	DIR=$(checked_folder "$2")
	MYSQL_DIR=$DIR/mysql REDIS_DIR=$DIR/redis
	case $command in
	up) up ;;
	down) down ;;
	env) need_pair && print_environment ;;
	*)
		need_pair
		claim_folder "$DIR" $MARKER
		"${command/-/_}"
		write_description
		;;
	esac
}

# ---- the pair

up() {
	claim_folder "$DIR" $MARKER
	forget_earlier_boot
	if [[ ! -e $DIR/complete ]]; then create_pair; else start_pair; fi
	write_description
	say "servers are up in $DIR: mysql on $(port_of mysql), redis on $(port_of redis)"
}

create_pair() {
	end_servers
	rm -rf "$MYSQL_DIR" "$REDIS_DIR"
	find_servers
	remember_programs
	LINKS=''
	trap abandon EXIT
	trap 'exit 143' INT TERM HUP # once the program that runs now has ended, for it writes into the folder
	initialise_mysql >"$DIR/initialise.log" 2>&1 || {
		{ grep -E 'ERROR|annot|denied|No space' "$DIR/initialise.log" || tail -n 20 "$DIR/initialise.log"; } >&2
		die $EXIT_UNAVAILABLE "$MYSQLD_PROGRAM cannot make a database in $DIR; see $DIR/initialise.log."
	}
	prepare_redis
	start_on_free_port redis
	start_on_free_port mysql
	boot_id >"$DIR/boot"
	: >"$DIR/complete"
	trap - EXIT INT TERM HUP
}

# abandon leaves no process of a pair that did not come to be; its folder stays for its logs, until down.
abandon() {
	end_servers
	[[ -z $LINKS ]] || rm -rf "$LINKS"
}

start_pair() {
	start_redis
	start_mysql
}

down() {
	[[ -e $DIR ]] || return 0
	[[ -e $DIR/$MARKER ]] || die $EXIT_USAGE "$DIR was not made by this script; it is left alone."
	claim_folder "$DIR" $MARKER
	end_servers
	release_folder "$DIR" $MARKER
}

end_servers() {
	local redis mysql
	redis=$(pid_of redis) mysql=$(pid_of mysql)
	if [[ $redis != 0 ]]; then kill -TERM "$redis" 2>/dev/null || true; fi # both stop side by side
	end_process "$mysql" "$MYSQL_DIR" $DOWN_SECONDS
	end_process "$redis" "$REDIS_DIR" $DOWN_SECONDS
}

# Relaxed flushing survives a killed server, not a machine that lost power: such data is thrown away.
forget_earlier_boot() {
	[[ -e $DIR/complete && -r $DIR/boot ]] || return 0
	[[ $(<"$DIR/boot") == "$(boot_id)" ]] || rm -f "$DIR/complete"
}

boot_id() { cat /proc/sys/kernel/random/boot_id 2>/dev/null || printf 'unknown\n'; }

need_pair() {
	[[ -e $DIR/$MARKER && -e $DIR/complete ]] || die $EXIT_UNAVAILABLE "there is no pair in $DIR; start one with: scripts/services.sh up $DIR"
}

remember_programs() {
	printf '%s\n' "$MYSQLD_PROGRAM" "$REDIS_PROGRAM" "$SERVERS_ROOT" >"$DIR/programs"
}

recall_programs() {
	{
		read -r MYSQLD_PROGRAM
		read -r REDIS_PROGRAM
		read -r SERVERS_ROOT || true
	} <"$DIR/programs"
}

pid_of() { pid_in "$DIR/$1.pid" "$DIR/$1"; }
port_of() { cat "$DIR/$1.port"; }

start_on_free_port() {
	local server=$1 port try
	for ((try = 0; try < BIND_TRIES; try++)); do
		choose_port port
		printf '%s\n' "$port" >"$DIR/$server.port"
		"launch_$server" && return
		"${server}_port_taken" || break
	done
	tail -n 5 "$DIR/$server.log" >&2
	die $EXIT_UNAVAILABLE "$server does not start; see $DIR/$server.log."
}

# restart SERVER SECONDS starts it on the port it had. Somebody may sit on that port for a moment, so bind errors are
# tried again; a client that still knows the old address must never be sent elsewhere.
restart() {
	local server=$1 try
	[[ $(pid_of "$server") == 0 ]] || return 0
	recall_programs
	for ((try = 0; try < BIND_TRIES; try++)); do
		"launch_$server" && return
		"${server}_port_taken" || break
		sleep 1
	done
	tail -n 5 "$DIR/$server.log" >&2
	die $EXIT_UNAVAILABLE "$server does not start again on port $(port_of "$server"); see $DIR/$server.log."
}

# launch SERVER FOLDER SECONDS READY COMMAND... is false when the process ends, or is not ready in time.
launch() {
	local server=$1 folder=$2 seconds=$3 ready=$4 deadline pid
	shift 4
	[[ ! -e $DIR/$server.log ]] || mv "$DIR/$server.log" "$DIR/$server.previous.log"
	: >"$DIR/$server.log"
	spawn "$DIR/$server.pid" "$folder" "$DIR/$server.log" "$@"
	deadline=$((SECONDS + seconds))
	while ((SECONDS < deadline)); do
		pid=$(pid_of "$server")
		[[ $pid != 0 ]] || return 1
		"$ready" "$pid" && return 0
		sleep 0.05
	done
	kill_process "$pid" "$folder"
	return 1
}

# ---- MariaDB or MySQL

initialise_mysql() {
	local as=() with
	library_prefix with "$MYSQLD_PROGRAM"
	mkdir -p "$MYSQL_DIR/tmp"
	if ((EUID == 0)); then as=(--user=root); fi
	od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$DIR/password"
	if [[ $("${with[@]}" "$MYSQLD_PROGRAM" --no-defaults --version) == *MariaDB* ]]; then
		initialise_mariadb "${as[@]}" && mariadb_accounts >"$MYSQL_DIR/init.sql"
	else
		"${with[@]}" "$MYSQLD_PROGRAM" --no-defaults --initialize-insecure --datadir="$MYSQL_DIR/data" --tmpdir="$MYSQL_DIR/tmp" "${as[@]}" &&
			mysql_accounts >"$MYSQL_DIR/init.sql"
	fi
}

# The installer does not quote its paths, so it sees ours through links that hold no space. Forced, because without that
# it insists on a host name that resolves, which a bare container may lack and our accounts do not use.
initialise_mariadb() {
	local installer='' folder near base=() with code=0
	library_prefix with "$MYSQLD_PROGRAM"
	folder=$(dirname "$(dirname "$MYSQLD_PROGRAM")")
	for near in "$folder"/{bin,scripts}/{mariadb-install-db,mysql_install_db}; do
		if [[ -z $installer && -x $near ]]; then installer=$near; fi
	done
	[[ -n $installer ]] || installer=$(program mariadb-install-db mysql_install_db) || {
		printf 'mariadb-install-db is missing beside %s\n' "$MYSQLD_PROGRAM"
		return 1
	}
	LINKS=$(mktemp -d /tmp/quiesce-links.XXXXXX)
	ln -s "$MYSQL_DIR" "$LINKS/mysql"
	if [[ -n $SERVERS_ROOT ]]; then
		ln -s "$SERVERS_ROOT" "$LINKS/root"
		base=(--basedir="$LINKS/root/usr")
	fi
	# A starting server removes all temporary tables in its TMPDIR, those of another one too.
	TMPDIR=$LINKS/mysql/tmp "${with[@]}" "$installer" --no-defaults "${base[@]}" --datadir="$LINKS/mysql/data" --force --skip-test-db --skip-name-resolve \
		--auth-root-authentication-method=socket --auth-root-socket-user="$(id -un)" --innodb-log-file-size=32M "$@" || code=$?
	rm -rf "$LINKS"
	return "$code"
}

# The accounts are made at every start by the server itself, which needs no client program. 'localhost' is listed because
# it is more specific than '%' for a connection over the socket.
accounts() {
	local host
	printf 'CREATE DATABASE IF NOT EXISTS %s CHARACTER SET utf8mb4;\n' $DATABASE
	for host in % localhost 127.0.0.1; do
		printf "CREATE USER IF NOT EXISTS '%s'@'%s' IDENTIFIED BY '%s';\n" $USER_NAME "$host" "$(<"$DIR/password")"
		printf "GRANT ALL PRIVILEGES ON *.* TO '%s'@'%s' WITH GRANT OPTION;\n" $USER_NAME "$host"
	done
}

mariadb_accounts() { accounts; }

mysql_accounts() {
	accounts
	printf "ALTER USER 'root'@'localhost' IDENTIFIED BY '%s';\n" "$(<"$DIR/password")"
}

# The socket is named relative to the data folder when its whole path would be too long for the kernel.
socket_path() {
	local path=$MYSQL_DIR/data/mysql.sock
	if ((${#path} > SOCKET_PATH_BYTES_MAX)); then path=mysql.sock; fi
	printf '%s\n' "$path"
}

# The binary log stays on, in row form, because what reads it is part of the product. Native AIO is off because its
# kernel-wide budget is soon spent when several pairs run at once.
mysql_configuration() {
	cat <<CONFIGURATION
[mysqld]
datadir=$MYSQL_DIR/data
tmpdir=$MYSQL_DIR/tmp
socket=$(socket_path)
pid-file=$MYSQL_DIR/server.pid
init-file=$MYSQL_DIR/init.sql
bind-address=127.0.0.1
port=$(port_of mysql)
skip-name-resolve
loose-mysqlx=0
server_id=1
log_bin=binlog
binlog_format=ROW
sync_binlog=0
max_connections=300
max_connect_errors=1000000
character-set-server=utf8mb4
innodb_buffer_pool_size=128M
innodb_flush_log_at_trx_commit=2
innodb_use_native_aio=0
loose-innodb_log_file_size=32M
performance_schema=OFF
CONFIGURATION
	if ((EUID == 0)); then printf 'user=root\n'; fi
	if [[ -n $SERVERS_ROOT ]]; then
		printf 'basedir=%s\nlc-messages-dir=%s\n' "$SERVERS_ROOT/usr" "$SERVERS_ROOT/usr/share/mysql"
		printf 'character-sets-dir=%s\nplugin-dir=%s\n' "$SERVERS_ROOT/usr/share/mysql/charsets" "$SERVERS_ROOT/usr/lib/mysql/plugin"
	fi
}

launch_mysql() {
	local with
	mysql_configuration >"$MYSQL_DIR/my.cnf"
	library_prefix with "$MYSQLD_PROGRAM"
	launch mysql "$MYSQL_DIR" $MYSQL_START_SECONDS mysql_ready "${with[@]}" "$MYSQLD_PROGRAM" --defaults-file="$MYSQL_DIR/my.cnf"
}

mysql_ready() { grep -q 'ready for connections' "$DIR/mysql.log" && listening "$(port_of mysql)"; }
mysql_port_taken() { grep -qi 'address already in use' "$DIR/mysql.log"; }
start_mysql() { restart mysql; }
stop_mysql() { end_process "$(pid_of mysql)" "$MYSQL_DIR" $MYSQL_STOP_SECONDS; }
kill_mysql() { kill_process "$(pid_of mysql)" "$MYSQL_DIR"; }

# ---- Redis or Valkey

prepare_redis() { mkdir -p "$REDIS_DIR"; }

redis_configuration() {
	cat <<CONFIGURATION
bind 127.0.0.1
port $(port_of redis)
dir "$REDIS_DIR"
pidfile "$REDIS_DIR/server.pid"
logfile "$DIR/redis.log"
daemonize no
save ""
appendonly no
CONFIGURATION
}

launch_redis() {
	local with
	redis_configuration >"$REDIS_DIR/redis.conf"
	library_prefix with "$REDIS_PROGRAM"
	printf '%s\n' "${with[@]}" "$REDIS_PROGRAM" >"$REDIS_DIR/command"
	launch redis "$REDIS_DIR" $REDIS_START_SECONDS redis_ready "${with[@]}" "$REDIS_PROGRAM" "$REDIS_DIR/redis.conf"
}

# redis_ready PID asks for the process id: another server on that port may answer before ours has failed to bind.
redis_ready() {
	# shellcheck disable=SC2016 # expanded by the inner bash
	timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1
		printf "INFO server\r\nQUIT\r\n" >&3
		grep -q "^process_id:$1[^0-9]" <&3' "$(port_of redis)" "$1" 2>/dev/null
}
redis_port_taken() { grep -qi 'address already in use' "$DIR/redis.log"; }
start_redis() { restart redis; }
stop_redis() { end_process "$(pid_of redis)" "$REDIS_DIR" $REDIS_STOP_SECONDS; }
kill_redis() { kill_process "$(pid_of redis)" "$REDIS_DIR"; }

# ---- where the pair is

dsn() { printf '%s:%s@tcp(127.0.0.1:%s)/%s\n' $USER_NAME "$(<"$DIR/password")" "$(port_of mysql)" $DATABASE; }

absolute_socket() {
	local path
	path=$(socket_path)
	[[ $path == /* ]] || path=$MYSQL_DIR/data/$path
	printf '%s\n' "$path"
}

# redis_command is how the server was started, without its configuration, for tests that start servers of their own.
redis_command() {
	local word separator=''
	[[ -f $REDIS_DIR/command ]] || return 0
	while IFS= read -r word; do
		word=${word//\\/\\\\}
		printf '%s"%s"' "$separator" "${word//\"/\\\"}"
		separator=', '
	done <"$REDIS_DIR/command"
}

# The pid of a server that does not run is 0.
write_description() {
	{
		printf '{\n  "mysql": {"host": "127.0.0.1", "port": %s, "user": "%s", "password": "%s", "database": "%s", "dsn": "%s", "socket": "%s", "pid": %s},\n' \
			"$(port_of mysql)" $USER_NAME "$(<"$DIR/password")" $DATABASE "$(dsn)" "$(absolute_socket)" "$(pid_of mysql)"
		printf '  "redis": {"addr": "127.0.0.1:%s", "pid": %s, "command": [%s]}\n}\n' "$(port_of redis)" "$(pid_of redis)" "$(redis_command)"
	} >"$DIR/services.json.new"
	mv "$DIR/services.json.new" "$DIR/services.json"
}

print_environment() {
	printf 'export QUIESCE_TEST_SERVICES=%q\n' "$DIR/services.json"
	printf 'export QUIESCE_TEST_MYSQL_HOST=127.0.0.1 QUIESCE_TEST_MYSQL_PORT=%s\n' "$(port_of mysql)"
	printf 'export QUIESCE_TEST_MYSQL_USER=%q QUIESCE_TEST_MYSQL_PASSWORD=%q\n' $USER_NAME "$(<"$DIR/password")"
	printf 'export QUIESCE_TEST_MYSQL_DATABASE=%q QUIESCE_TEST_MYSQL_SOCKET=%q\n' $DATABASE "$(absolute_socket)"
	printf 'export QUIESCE_TEST_MYSQL_DSN=%q\n' "$(dsn)"
	printf 'export QUIESCE_TEST_REDIS_ADDR=127.0.0.1:%s\n' "$(port_of redis)"
}

main "$@"
