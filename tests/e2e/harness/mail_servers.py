# SPDX-License-Identifier: Apache-2.0
"""Debian's mail servers, each closed and deliberately open, with everything external routed to the catch by its literal address."""
from .peers import CLIENT, LOCAL_DOMAIN, SERVER, SERVER_NAME, World, unpacked
from .postern import program
from .settings import to_yaml

CATCH_PORT = 25


class MailServer:
    """Makes a world with this server running in it, as a context manager."""

    name = ""
    package = None  # None: installed

    def __init__(self, is_open):
        self._is_open = is_open
        self.world = World(unpacked(self.package) if self.package else None)

    def configure(self):
        raise NotImplementedError

    def start(self):
        raise NotImplementedError

    def log(self):
        """What the server has to say when a test fails."""
        return ""

    def __enter__(self):
        self.configure()
        self.world.__enter__()
        try:
            self.start()
            self.world.wait_for_port()
        except BaseException:
            print(self.log())
            self.world.close()
            raise
        return self

    def __exit__(self, *unused):
        print(f"---- {self.name} ----\n{self.log()}")
        self.world.close()


class Postfix(MailServer):
    """Takes unknown local recipients, and reports them: then its percent hack and the like must show what they are worth."""

    name = "Postfix"

    def configure(self):
        networks = "0.0.0.0/0" if self._is_open else "127.0.0.0/8"
        self.world.write("etc/postfix/main.cf", f"""\
compatibility_level = 3.6
myhostname = {SERVER_NAME}
mydomain = {LOCAL_DOMAIN}
mydestination = {LOCAL_DOMAIN}, {SERVER_NAME}, localhost
mynetworks = {networks}
relayhost = [{CLIENT}]:{CATCH_PORT}
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = {SERVER}, 127.0.0.1
inet_protocols = ipv4
smtp_dns_support_level = disabled
maillog_file = /var/log/postfix.log
smtpd_error_sleep_time = 0
in_flow_delay = 0
""")
        services = """\
smtp inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
        self.world.write("etc/postfix/master.cf", services)

    def start(self):
        self.world.on_server("postfix", "check")
        self.world.start_on_server("postfix", "start-fg", log="postfix")

    def log(self):
        return self.world.read_on_server("/var/log/postfix.log")


class Exim(MailServer):
    name = "Exim"
    package = "exim"

    def configure(self):
        self.world.add_users("Debian-exim")
        relay_from = "*" if self._is_open else "127.0.0.1"
        self.world.write("etc/exim4/exim4.conf", f"""\
primary_hostname = {SERVER_NAME}
qualify_domain = {LOCAL_DOMAIN}
domainlist local_domains = {LOCAL_DOMAIN} : {SERVER_NAME} : @[]
hostlist relay_from_hosts = {relay_from}
allow_domain_literals
acl_smtp_rcpt = check_rcpt
local_interfaces = {SERVER}
daemon_smtp_ports = 25
never_users = root
exim_user = Debian-exim
exim_group = Debian-exim
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max_per_connection = 0
tls_advertise_hosts =
log_file_path = /tmp/exim-%slog
begin acl
check_rcpt:
  accept hosts = +relay_from_hosts
  accept domains = +local_domains
  deny message = relay not permitted
begin routers
outside:
  driver = manualroute
  domains = ! +local_domains
  route_list = * {CLIENT}::{CATCH_PORT}
  transport = remote
  no_more
system_aliases:
  driver = redirect
  data = ${{lookup{{$local_part}}lsearch{{/etc/relaytest.aliases}}}}
  allow_fail
begin transports
remote:
  driver = smtp
begin retry
* * F,2h,15m
""")
        self.world.write("etc/relaytest.aliases", "postmaster: :blackhole:\n")
        self.world.write("usr/sbin/start-exim", """\
#!/bin/sh
mkdir -p /var/spool/exim4/input /var/spool/exim4/db /var/spool/exim4/msglog
chown -R Debian-exim:Debian-exim /var/spool/exim4
exec exim4 -bdf -q1m
""", 0o755)

    def start(self):
        self.world.start_on_server("/usr/sbin/start-exim", log="exim")

    def log(self):
        return self.world.log("exim") + self.world.read_on_server("/tmp/exim-mainlog") + self.world.read_on_server("/tmp/exim-paniclog")


class OpenSmtpd(MailServer):
    """Looks recipients up while it is spoken to, and has no other way."""

    name = "OpenSMTPD"
    package = "opensmtpd"

    def configure(self):
        self.world.add_users("opensmtpd", "opensmtpq")
        allowed = "any" if self._is_open else "local"
        self.world.write("etc/smtpd.conf", f"""\
listen on {SERVER} port 25 hostname {SERVER_NAME}
action "local" maildir "/tmp/maildir/%{{user.username}}"
action "outside" relay host smtp://{CLIENT}:{CATCH_PORT}
match from any for domain {{ {LOCAL_DOMAIN} {SERVER_NAME} }} action "local"
match from {allowed} for any action "outside"
""")
        self.world.write("usr/sbin/start-opensmtpd", """\
#!/bin/sh
mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd /run
chmod 711 /var/spool/smtpd
exec smtpd -d
""", 0o755)

    def start(self):
        self.world.start_on_server("/usr/sbin/start-opensmtpd", log="opensmtpd")

    def log(self):
        return self.world.log("opensmtpd")


class Sendmail(MailServer):
    name = "sendmail"
    package = "sendmail"

    def configure(self):
        self.world.add_users("smmta", "smmsp")
        is_open = "FEATURE(`promiscuous_relay')dnl\n" if self._is_open else ""
        self.world.write("etc/mail/relaytest.mc", f"""\
include(`/usr/share/sendmail/cf/m4/cf.m4')
OSTYPE(`debian')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`accept_unqualified_senders')dnl
{is_open}define(`SMART_HOST', `[{CLIENT}]')dnl
define(`confDOMAIN_NAME', `{SERVER_NAME}')dnl
define(`confBAD_RCPT_THROTTLE', `0')dnl
define(`confTO_IDENT', `0s')dnl
define(`confDONT_PROBE_INTERFACES', `True')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')dnl
define(`ALIAS_FILE', `/etc/mail/aliases')dnl
DAEMON_OPTIONS(`Family=inet, Name=MTA, Port=25, Addr={SERVER}')dnl
FEATURE(`local_lmtp', `/usr/libexec/sendmail/mail.local')dnl
MAILER(`local')dnl
MAILER(`smtp')dnl
LOCAL_CONFIG
Cw{LOCAL_DOMAIN} {SERVER_NAME} [{SERVER}]
""")
        self.world.write("etc/mail/aliases", "postmaster: root\n")
        self.world.write("etc/mail/service.switch", "hosts files\naliases files\n")
        self.world.write("usr/sbin/start-sendmail", """\
#!/bin/sh
set -e
mkdir -p /var/spool/mqueue /var/run/sendmail/mta /var/lib/sendmail/host_status
m4 /etc/mail/relaytest.mc >/etc/mail/sendmail.cf
/usr/libexec/sendmail/sendmail -bi
exec /usr/libexec/sendmail/sendmail -bD -q1m
""", 0o755)

    def start(self):
        self.world.start_on_server("/usr/sbin/start-sendmail", log="sendmail")

    def log(self):
        return self.world.log("sendmail")


class Postern(MailServer):
    name = "Postern"
    lookup = "after-accept"

    def configure(self):
        self.world.install("usr/sbin/posternd", program("posternd"))
        self.world.write("etc/postern.yaml", to_yaml({
            "hostname": SERVER_NAME, "data-dir": "/tmp/postern/data", "run-dir": "/tmp/postern/run", "user": "root",
            "domains": {LOCAL_DOMAIN: {"type": "local", "default": True, "recipients": ["alice"]},
                        SERVER_NAME: {"type": "local", "recipients": ["alice"]}},
            "servers": {"main": {"listen": [f"{SERVER}:25"], "recipients": {"lookup": self.lookup},
                                 **({"relay": {"except": ["192.0.2.1"]}, "allow-open-relay": "a test"} if self._is_open else {})}},
            "connectors": {"out": {"address-spaces": ["*"], "smart-hosts": [f"[{CLIENT}]:{CATCH_PORT}"]}},
            "log": {"format": "text", "level": "info"},
        }))

    def start(self):
        self.world.start_on_server("posternd", "-c", "/etc/postern.yaml", log="postern")

    def log(self):
        return self.world.log("postern")


class PosternAtRcpt(Postern):
    name = "Postern, at-rcpt"
    lookup = "at-rcpt"


ALL = (Postern, PosternAtRcpt, Postfix, Exim, OpenSmtpd, Sendmail)
