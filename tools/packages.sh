# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Debian packages: which are needed, and how they are installed. Names hold on Debian 12 and 13.

build_packages=(
    gcc libc6-dev meson ninja-build openssl pkg-config python3
    libuv1-dev libyaml-dev libidn2-dev libjansson-dev libunbound-dev libssl-dev libseccomp-dev libgsasl-dev libkrb5-dev libsqlite3-dev libcrypt-dev libldap-dev libcmocka-dev
)
test_packages=(
    clang libclang-rt-dev clang-format clang-tidy shellcheck
    python3-pytest python3-pytest-xdist python3-yaml python3-jsonschema
    curl dovecot-core dovecot-lmtpd gsasl krb5-admin-server krb5-kdc krb5-user ldnsutils libnet-ssleay-perl msmtp nmap nsd
    postfix python3-aiosmtpd python3-flufl.bounce slapd swaks testssl.sh unbound
    iproute2 mandoc procps util-linux
)

missing_packages() {
    local package

    for package in "$@"; do
        if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
            printf '%s\n' "$package"
        fi
    done
}

# Runs as root, in a shell of its own: it may use nothing of ours. A mail server that is installed for tests must not start
# (the tests bring their own configuration), which is what policy-rc.d is for; one that is there already is left alone.
install_packages() {
    set -eu
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    apt-get update -q -o DPkg::Lock::Timeout=300
    if command -v debconf-set-selections >/dev/null; then
        echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
    fi
    # Never at the price of what is installed: Debian's mail servers exclude each other.
    apt-get install -q -y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300 "$@"
}

# ensure_packages build|test
ensure_packages() {
    local -a wanted missing
    local script

    case $1 in
        build) wanted=("${build_packages[@]}") ;;
        test) wanted=("${test_packages[@]}") ;;
    esac
    command -v dpkg-query >/dev/null || die "this is no Debian: install by hand what $1_packages in tools/packages.sh lists"
    mapfile -t missing < <(missing_packages "${wanted[@]}")
    if [[ ${#missing[@]} -eq 0 ]]; then
        return
    fi
    printf 'Installing: %s\n' "${missing[*]}"
    script="$(declare -f install_packages); install_packages \"\$@\""
    if [[ $(id -u) -eq 0 ]]; then
        bash -c "$script" bash "${missing[@]}"
    elif command -v sudo >/dev/null; then
        sudo bash -c "$script" bash "${missing[@]}"
    else
        die "neither root nor sudo; as root: apt-get install --no-install-recommends ${missing[*]}"
    fi || die "could not install: ${missing[*]}"
}
