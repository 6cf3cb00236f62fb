# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The demo that `./dev run` starts: a configuration under var/, and how to send it a first message.

# An existing one is kept: it is the developer's to play with. The port that everything else is routed to is closed unless
# someone listens there on purpose (smtp-sink 127.0.0.1:2526 10), so that no experiment ever leaves the machine.
write_demo_configuration() {
    mkdir -p var
    if [[ -e var/postern.yaml ]]; then
        return
    fi
    cat >var/postern.yaml.new <<TEXT
# The demo's configuration, written by ./dev run. Change it as you like; delete it to get a fresh one.
hostname: mail.contoso.test
data-dir: "$root/var/data"
run-dir: "$root/var/run"
user: "$(id -un)"

domains:
  contoso.test: { type: local, default: true, deliver: maildir, recipients: directory } # alice and bob: postern user list
  contoso.example: { type: alias, of: contoso.test }

servers:
  relay:
    listen: ["127.0.0.1:2525"]
  submission:
    listen: ["127.0.0.1:2587"]
    anonymous: false
    tls: { mode: starttls, certificate: "$root/var/certificate.pem", key: "$root/var/key.pem" }
    auth: { mechanisms: [PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS] }

connectors:
  everything-else: # stays on this machine
    address-spaces: ["*"]
    smart-hosts: ["127.0.0.1:2526"]

log: { format: text, level: info, to: stderr }
TEXT
    make_demo_certificate
    make_demo_users
    mv var/postern.yaml.new var/postern.yaml
}

# Signed by itself: good enough to try TLS with, and nothing else.
make_demo_certificate() {
    if [[ ! -e var/key.pem ]]; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 825 -subj /CN=mail.contoso.test \
            -addext subjectAltName=DNS:mail.contoso.test,DNS:localhost,IP:127.0.0.1 \
            -keyout var/key.pem -out var/certificate.pem 2>var/openssl.log || die "openssl: see var/openssl.log"
    fi
}

# Two people with one password, of which nobody else's machine has the same.
make_demo_users() {
    local user

    if [[ ! -e var/password ]]; then
        (umask 077 && openssl rand -hex 10 >var/password)
    fi
    for user in alice bob; do
        if ! build/release/postern -c var/postern.yaml.new user list | grep -qw "$user"; then
            build/release/postern -c var/postern.yaml.new user add "$user" <var/password
        fi
    done
}

print_demo_instructions() {
    cat <<TEXT

Postern starts on 127.0.0.1:2525 (SMTP) and 127.0.0.1:2587 (submission), configured by var/postern.yaml.
Send a first message from another terminal (in this folder), with swaks (apt install swaks):

    swaks --server 127.0.0.1:2525 --from bob@example.org --to alice@contoso.test

or with curl:

    printf 'Subject: Hello\n\nFirst message.\n' | curl --crlf smtp://127.0.0.1:2525 --mail-from bob@example.org \\
        --mail-rcpt alice@contoso.test --upload-file -

alice and bob have the password in var/password, and may send anywhere (which ends at 127.0.0.1:2526 here):

    swaks --server 127.0.0.1:2587 --tls --auth-user alice --auth-password "\$(cat var/password)" \\
        --from alice@contoso.test --to bob@contoso.test

Mail lands in var/data/drop/:

    cat var/data/drop/alice@contoso.test/new/*

Ctrl-C ends the relay.

TEXT
}
