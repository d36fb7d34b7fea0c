# Sourced by contrib/run and contrib/test: installs Debian packages from lists, only those that are missing.

# missing_packages FILE...: those of the lists that are not installed, one a line.
missing_packages() {
	local name
	sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$@" | while read -r name; do
		[ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$name" 2>/dev/null)" = 'ii ' ] || printf '%s\n' "$name"
	done
}

# as_root CMD...: directly, or by sudo.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		printf '%s\n' "this needs root, or sudo: $*" >&2
		return 1
	fi
}

install_packages() {
	local missing
	missing=$(missing_packages "$@")
	[ -n "$missing" ] || return 0
	printf 'installing: %s\n' "$(printf '%s ' $missing)" >&2
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >&2
	# shellcheck disable=SC2086
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
		-o Dpkg::Use-Pty=0 install $missing </dev/null >&2
}
