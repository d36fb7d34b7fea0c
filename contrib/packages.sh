# Sourced by contrib/run and contrib/test: installs Debian packages from lists, only those that are missing.

# missing_packages FILE...: those of the lists that are not installed, one a line.
missing_packages() {
	local name
	sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$@" | while read -r name; do
		[ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$name" 2>/dev/null)" = 'ii ' ] || printf '%s\n' "$name"
	done
}

# A sudo that works: without a question, or there is a terminal to ask at.
can_be_root() {
	[ "$(id -u)" = 0 ] || { command -v sudo >/dev/null &&
		{ sudo -n true 2>/dev/null || { (: </dev/tty) 2>/dev/null && sudo -v; }; }; }
}

# as_root CMD...: directly, or by sudo.
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# The packages come without a service of their own: no Postfix on port 25, no name server on port 53.
quiet_install() {
	local policy=/usr/sbin/policy-rc.d status=0
	if [ -e $policy ]; then
		policy=
	else
		printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
		as_root chmod 0755 $policy
	fi
	echo 'postfix postfix/main_mailer_type select No configuration' | as_root debconf-set-selections || true
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 \
		install "$@" </dev/null >&2 || status=$?
	[ -z "$policy" ] || as_root rm -f $policy
	return $status
}

# Where the tests look for it: it cannot be installed beside Postfix.
unpack_exim() {
	local place=/opt/tram-test box status=0
	[ ! -x $place/usr/sbin/exim4 ] || return 0
	can_be_root || return 1
	box=$(mktemp -d)
	(cd "$box" && apt-get -qq download exim4-daemon-light >&2 && as_root dpkg -x exim4-daemon-light_*.deb $place &&
		as_root chmod u-s $place/usr/sbin/exim4) || status=$?
	rm -rf "$box"
	return $status
}

install_packages() {
	local missing
	missing=$(missing_packages "$@")
	[ -n "$missing" ] || return 0
	missing=$(printf '%s ' $missing)
	if ! can_be_root; then
		printf '%s\n' "packages are missing, and this user may not install them. As root, once:" \
			"  apt-get install --no-install-recommends $missing" >&2
		return 1
	fi
	printf 'installing: %s\n' "$missing" >&2
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >&2
	# shellcheck disable=SC2086
	quiet_install $missing
}
