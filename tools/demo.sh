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
  contoso.test: { type: local, default: true, deliver: maildir, recipients: any }
  contoso.example: { type: alias, of: contoso.test }

servers:
  relay:
    listen: ["127.0.0.1:2525"]
  submission:
    listen: ["127.0.0.1:2587"]

connectors:
  everything-else: # stays on this machine
    address-spaces: ["*"]
    smart-hosts: ["127.0.0.1:2526"]

log: { format: text, level: info, to: stderr }
TEXT
    mv var/postern.yaml.new var/postern.yaml
}

print_demo_instructions() {
    cat <<TEXT

Postern starts on 127.0.0.1:2525 (SMTP) and 127.0.0.1:2587 (submission), configured by var/postern.yaml.
Send a first message from another terminal (in this folder), with swaks (apt install swaks):

    swaks --server 127.0.0.1:2525 --from bob@example.org --to alice@contoso.test

or with curl:

    printf 'Subject: Hello\n\nFirst message.\n' | curl --crlf smtp://127.0.0.1:2525 --mail-from bob@example.org \\
        --mail-rcpt alice@contoso.test --upload-file -

It lands in var/data/drop/alice@contoso.test/new/:

    cat var/data/drop/alice@contoso.test/new/*

Ctrl-C ends the relay.

TEXT
}
