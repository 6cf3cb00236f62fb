#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/peers.sh DIRECTORY: unpacks Debian's other mail servers for the tests of relaytest, each into a folder of its own. They exclude each
# other, so they are not installed, and nothing of them runs outside of the tests. What is there already stays. Libraries that the machine lacks
# are unpacked with them.
set -euo pipefail

declare -A packages=(
    [exim]="exim4-base exim4-daemon-light"
    [opensmtpd]="opensmtpd"
    [sendmail]="m4 sendmail-base sendmail-bin sendmail-cf sensible-mda"
)

is_installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# The libraries, at any depth, that these packages need and the machine does not have.
missing_libraries() {
    local package

    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@" |
        sed -n 's/^\(lib[a-z0-9.+-]*\)$/\1/p' | sort -u | while read -r package; do
        if ! is_installed "$package" && apt-cache show "$package" >/dev/null 2>&1; then
            printf '%s\n' "$package"
        fi
    done
}

# A container's package lists may be empty, or older than the archive.
update_lists() {
    if [[ $(id -u) -eq 0 ]]; then
        apt-get update -q
    else
        sudo apt-get update -q
    fi
}

# unpack DIRECTORY PACKAGE...
unpack() {
    local directory=$1
    local archive
    local -a libraries

    shift
    mkdir -p -- "$directory/archives" "$directory/root"
    apt-cache show "$@" >/dev/null 2>&1 || update_lists
    mapfile -t libraries < <(missing_libraries "$@")
    (cd -- "$directory/archives" && { apt-get download -q "$@" "${libraries[@]}" || { update_lists && apt-get download -q "$@" "${libraries[@]}"; }; })
    for archive in "$directory"/archives/*.deb; do
        dpkg-deb -x "$archive" "$directory/root"
    done
    rm -rf -- "$directory/archives"
}

main() {
    local target=$1
    local name
    local -a wanted

    mkdir -p -- "$target"
    # Two test runs may come at once.
    exec 9>"$target/lock"
    flock 9
    for name in "${!packages[@]}"; do
        if [[ -e $target/$name/complete ]]; then
            continue
        fi
        rm -rf -- "${target:?}/$name"
        read -r -a wanted <<<"${packages[$name]}"
        unpack "$target/$name" "${wanted[@]}"
        touch -- "$target/$name/complete"
    done
}

main "${1:?usage: tools/peers.sh DIRECTORY}"
