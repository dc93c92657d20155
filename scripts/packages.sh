# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2178 # arrays are filled in for the caller by name
# Where the MariaDB/MySQL and Redis/Valkey programs come from. Sourced by services.sh, never executed.
#
# In this order: what MYSQLD= and REDIS_SERVER= name; what is installed; what was unpacked before; the system's package
# manager where it may install; on Debian and Ubuntu the packages unpacked into a folder of ours, which needs no rights.
# QUIESCE_SERVICES=installed|install|unpack allows only that one way.

readonly SERVER_FOLDERS=(/usr/sbin /usr/bin /usr/local/sbin /usr/local/bin /usr/libexec /usr/local/mysql/bin
	/opt/homebrew/bin /opt/homebrew/opt/mariadb/bin /usr/local/opt/mariadb/bin)
readonly WHAT_TO_INSTALL="install MariaDB or MySQL (mariadbd or mysqld) and Redis or Valkey (redis-server or valkey-server), or name them with MYSQLD= and REDIS_SERVER=."

# Set by find_servers. SERVERS_ROOT is empty unless the programs were unpacked.
MYSQLD_PROGRAM='' REDIS_PROGRAM='' SERVERS_ROOT=''

# program NAME... prints the first that is on PATH or in a usual place.
program() {
	local name folder
	for name in "$@"; do
		type -P "$name" && return
		for folder in "${SERVER_FOLDERS[@]}"; do
			if [[ -x $folder/$name ]]; then
				printf '%s\n' "$folder/$name"
				return
			fi
		done
	done
	return 1
}

named_program() {
	[[ -f $2 && -x $2 ]] || die $EXIT_USAGE "$1=$2 is not a program that can be run."
	printf '%s\n' "$2"
}

find_installed() {
	MYSQLD_PROGRAM=$(program mariadbd mysqld || true)
	REDIS_PROGRAM=$(program redis-server valkey-server || true)
}

apply_named() {
	if [[ -n ${MYSQLD:-} ]]; then MYSQLD_PROGRAM=$(named_program MYSQLD "$MYSQLD"); fi
	if [[ -n ${REDIS_SERVER:-} ]]; then REDIS_PROGRAM=$(named_program REDIS_SERVER "$REDIS_SERVER"); fi
}

servers_found() { [[ -n $MYSQLD_PROGRAM && -n $REDIS_PROGRAM ]]; }

find_servers() {
	local way=${QUIESCE_SERVICES:-auto}
	case $way in
	auto | installed | install | unpack) ;;
	*) die $EXIT_USAGE "QUIESCE_SERVICES=$way is unknown; use auto, installed, install or unpack." ;;
	esac
	if [[ $way != unpack ]]; then find_installed; fi
	apply_named
	servers_found && return
	if [[ $way == auto || $way == unpack ]]; then
		use_unpacked && servers_found && return
	fi
	if [[ $way == auto || $way == install ]]; then
		install_servers && find_installed && apply_named
		servers_found && return
	fi
	if [[ $way == auto || $way == unpack ]]; then
		unpack_servers && use_unpacked && servers_found && return
	fi
	die $EXIT_UNAVAILABLE "no database or cache server could be found or installed: $WHAT_TO_INSTALL"
}

# ---- the system's package manager

install_servers() {
	local log manager
	manager=$(package_manager) || return 1
	say "installing $(missing_names) with $manager (once)..."
	log=$(mktemp)
	if "install_with_$manager" >"$log" 2>&1 </dev/null; then
		rm -f "$log"
		return 0
	fi
	tail -n 5 "$log" >&2
	rm -f "$log"
	say "$manager could not install them."
	return 1
}

missing_names() {
	local names=()
	[[ -n $MYSQLD_PROGRAM ]] || names+=(MariaDB)
	[[ -n $REDIS_PROGRAM ]] || names+=(Redis)
	(IFS=/ && printf '%s\n' "${names[*]}")
}

# package_manager prints the one that may install for this user. Homebrew refuses root, all others need it.
package_manager() {
	local candidate
	if ((EUID != 0)); then
		command -v brew
		return
	fi
	for candidate in apt-get dnf apk pacman zypper; do
		if command -v "$candidate" >/dev/null; then
			printf '%s\n' "$candidate"
			return
		fi
	done
	return 1
}

install_with_apt-get() {
	local packages
	apt_names packages || { apt-get -q update && apt_names packages; } || return 1
	with_services_denied apt_install "${packages[@]}" || {
		apt-get -q update && with_services_denied apt_install "${packages[@]}"
	} || return 1
	# What we installed must not start at the next boot either. Only Redis brings a unit: MariaDB's core package has none.
	if [[ -z $REDIS_PROGRAM ]]; then
		if command -v deb-systemd-helper >/dev/null; then deb-systemd-helper disable redis-server.service || true; fi
		if command -v update-rc.d >/dev/null; then update-rc.d redis-server disable || true; fi
	fi
}

apt_install() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
}

# with_services_denied COMMAND... runs it while package scripts may start no service. The policy names this process and
# allows everything again once it is gone, so that even a SIGKILL here cannot leave the machine unable to start services.
with_services_denied() (
	policy=/usr/sbin/policy-rc.d saved=/usr/sbin/policy-rc.d.before-quiesce
	if [[ -e $policy || -L $policy ]]; then mv "$policy" "$saved"; fi
	trap 'rm -f "$policy"; if [[ -e $saved || -L $saved ]]; then mv "$saved" "$policy"; fi' EXIT
	printf '#!/bin/sh\n[ -d /proc/%s ] && exit 101\n[ -x %s ] && exec %s "$@"\nexit 0\n' "$BASHPID" "$saved" "$saved" >"$policy"
	chmod 755 "$policy"
	"$@"
)

install_with_dnf() { dnf -y install mariadb-server && { dnf -y install valkey || dnf -y install redis; }; }
install_with_apk() { apk add mariadb && { apk add valkey || apk add redis; }; }
install_with_pacman() { pacman -S --noconfirm --needed mariadb valkey; }
install_with_zypper() { zypper --non-interactive install mariadb redis; }
install_with_brew() { brew install mariadb redis; }

# apt_names ARRAY [APT-OPTION...] fills in the packages that hold the missing programs. The "core" packages hold the
# server without a system service; their names carry a version on some releases, so MariaDB's own dependency is asked.
apt_names() {
	local -n names=$1
	shift
	local core client answer
	names=()
	if [[ -z $MYSQLD_PROGRAM ]]; then
		answer=$(LC_ALL=C apt-cache "$@" depends mariadb-server 2>/dev/null) || return 1
		[[ $answer =~ Depends:\ (mariadb-server-core[^[:space:]]*) ]] || return 1
		core=${BASH_REMATCH[1]}
		client=${core/server/client}
		names+=("$core" "$client")
	fi
	if [[ -z $REDIS_PROGRAM ]]; then
		answer=$(LC_ALL=C apt-cache "$@" policy redis-server 2>/dev/null) || return 1
		[[ $answer =~ Candidate:\ [0-9] ]] || return 1
		names+=(redis-server)
	fi
}

# ---- packages unpacked into a folder of ours

unpack_cache() {
	local release=unknown
	# shellcheck disable=SC1091 # the system's own file
	[[ -r /etc/os-release ]] && release=$(. /etc/os-release && printf '%s-%s' "${ID:-linux}" "${VERSION_ID:-rolling}")
	printf '%s/%s-%s\n' "${QUIESCE_CACHE:-$REPOSITORY/.data/packages}" "$release" "$(uname -m)"
}

# use_unpacked fills in what is missing from the unpacked root, if there is one.
use_unpacked() {
	local root found
	root=$(unpack_cache)/root
	[[ -d $root ]] || return 1
	if [[ -z $MYSQLD_PROGRAM ]] && found=$(PATH=$root/usr/sbin:$root/usr/bin type -P mariadbd || PATH=$root/usr/sbin type -P mysqld); then
		MYSQLD_PROGRAM=$found
	fi
	if [[ -z $REDIS_PROGRAM ]] && found=$(PATH=$root/usr/bin type -P redis-server); then
		REDIS_PROGRAM=$found
	fi
	SERVERS_ROOT=$root
}

# library_prefix ARRAY PROGRAM fills in the words to put before an unpacked program, so that it finds the libraries
# unpacked beside it; nothing for an installed one.
library_prefix() {
	local -n words=$1
	words=()
	if [[ -n $SERVERS_ROOT && $2 == "$SERVERS_ROOT"/* ]]; then words=(env LD_LIBRARY_PATH="$(library_path)"); fi
}

library_path() {
	local folder path=''
	for folder in "$SERVERS_ROOT"/usr/lib/*-linux-* "$SERVERS_ROOT"/lib/*-linux-*; do
		if compgen -G "$folder/*.so*" >/dev/null; then path+=${path:+:}$folder; fi
	done
	printf '%s\n' "$path"
}

unpack_servers() {
	local cache staging
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
	cache=$(unpack_cache)
	mkdir -p "$cache" 2>/dev/null || {
		say "$cache cannot be written; name another folder with QUIESCE_CACHE=."
		return 1
	}
	exec 8>>"$cache/.lock"
	flock -w 600 8 || return 1
	if [[ -d $cache/root ]] && use_unpacked && servers_found; then return 0; fi
	say "downloading and unpacking $(missing_names) into $cache (once, no rights needed)..."
	staging=$(mktemp -d "$cache/unpacking.XXXXXX")
	if unpack_into "$staging" >"$cache/unpack.log" 2>&1 </dev/null; then
		rm -rf "$cache/root"
		mv "$staging/root" "$cache/root"
		rm -rf "$staging"
		exec 8>&-
		return 0
	fi
	rm -rf "$staging"
	tail -n 5 "$cache/unpack.log" >&2
	say "the packages could not be downloaded and unpacked; see $cache/unpack.log."
	return 1
}

# unpack_into FOLDER asks apt for what is missing, without its rights: its own lists when the system has none.
unpack_into() (
	staging=$1 packages=() MYSQLD_PROGRAM='' REDIS_PROGRAM='' # always both: the root is replaced as a whole
	mkdir -p "$staging/root" "$staging/debs" "$staging/apt/lists/partial" "$staging/apt/cache/archives/partial"
	options=(-o Dir::Cache="$staging/apt/cache")
	if ! apt_names packages "${options[@]}"; then
		options+=(-o Dir::State::Lists="$staging/apt/lists")
		apt-get -q "${options[@]}" update || true # the system's own hooks fail without rights; the next line judges
		apt_names packages "${options[@]}" || return 1
	fi
	missing=$(missing_packages) || return 1
	cd "$staging/debs" || return 1
	# shellcheck disable=SC2086 # one word a package
	apt-get -q "${options[@]}" download $missing || return 1
	for deb in "$staging"/debs/*.deb; do
		dpkg-deb -x "$deb" "$staging/root" || return 1
	done
)

# missing_packages prints the closure of what is not installed. The servers themselves are in it even where the system
# has them, because whoever asks for unpacked ones wants those.
missing_packages() {
	local plan
	awk 'BEGIN { RS = ""; ORS = "\n\n" } !/^Package: (mariadb-(server|client)|mysql-server|redis|valkey)/' \
		/var/lib/dpkg/status >"$staging/apt/status"
	plan=$(LC_ALL=C apt-get -s "${options[@]}" -o Dir::State::status="$staging/apt/status" install --no-install-recommends "${packages[@]}") ||
		plan=$(LC_ALL=C apt-get -s "${options[@]}" install --no-install-recommends "${packages[@]}") || return 1
	{ awk '/^Inst / { print $2 }' <<<"$plan" && printf '%s\n' "${packages[@]}"; } | sort -u
}
