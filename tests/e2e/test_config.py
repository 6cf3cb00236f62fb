# SPDX-License-Identifier: Apache-2.0
"""Configuration files: what is wrong with one, where, and what would be right; nothing starts with a bad one."""
import json
import re
import subprocess

import pytest

from harness.client import deliver, letter, token
from harness.limits import WAIT_S
from harness.postern import ROOT, program
from harness.settings import base, merge, to_yaml

GOOD = """\
hostname: mail.contoso.test
data-dir: {directory}/data
run-dir: {directory}/run
user: {user}
domains:
  contoso.test: {{ type: local, default: true, recipients: [alice] }}
servers:
  main:
    listen: ["127.0.0.1:0"]
    relay: {{ only: [10.1.0.0/16] }}
connectors:
  out: {{ address-spaces: ["*"], smart-hosts: ["127.0.0.1:2526"] }}
"""


def good(tmp_path):
    return GOOD.format(directory=tmp_path, user=base(tmp_path)["user"])


def check(tmp_path, text, *options):
    path = tmp_path / "postern.yaml"
    if text is not None:
        path.write_text(text)
    return path, subprocess.run([program("postern"), "check", "-c", str(path), *options], capture_output=True, text=True,
                                timeout=WAIT_S, check=False)


def start(path):
    return subprocess.run([program("posternd"), "-c", str(path)], capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_good_file(tmp_path):
    path, result = check(tmp_path, good(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr


def test_file_option_before_or_after_the_command(tmp_path):
    path, _ = check(tmp_path, good(tmp_path))
    for arguments in (["-c", str(path), "check"], ["check", "-c", str(path)]):
        assert subprocess.run([program("postern"), *arguments], capture_output=True, timeout=WAIT_S, check=False).returncode == 0


# What is changed in the good file (old, new), where the complaint stands, and words that it must hold.
BAD = {
    "unknown-key": ("    relay:", "    rellay:", "10:5", ["rellay", "relay"]),
    "unknown-top-key": ("hostname:", "hostnam:", "1:1", ["hostnam", "hostname"]),
    "wrong-type-map": ("relay: {{ only: [10.1.0.0/16] }}", "relay: yes", "10:12", ["relay"]),
    "wrong-type-list": ('listen: ["127.0.0.1:0"]', "listen: {{ a: b }}", "9:13", ["listen"]),
    "wrong-type-boolean": ("default: true", "default: perhaps", "6:41", ["perhaps", "true"]),
    "bad-address": ('"127.0.0.1:0"', '"127.0.0.1.2:0"', "9:14", ["127.0.0.1.2"]),
    "bad-port": ('"127.0.0.1:0"', '"127.0.0.1:65536"', "9:14", ["65536"]),
    "bad-enum": ("type: local", "type: lokal", "6:25", ["lokal", "local"]),
    "missing-default": (", default: true", "", None, ["default"]),
    "two-defaults": ("servers:", "  fabrikam.test: {{ type: local, default: true }}\nservers:", "7:42", ["default", "contoso.test"]),
    "bad-domain-entry": ("[10.1.0.0/16]", '["domain:*.contoso.test"]', "10:21", ["domain:NAME"]),
    "proxy-by-name": ("    relay:", '    proxy-protocol: {{ from: ["domain:contoso.test"] }}\n    relay:', "10:29", ["address"]),
    "bad-resolver": ("servers:", "dns: {{ resolver: 127.0.0.1:53 }}\nservers:", "7:18", ["ADDRESS@PORT"]),
    "dangling-alias": ("servers:", "  contoso.example: {{ type: alias, of: nowhere.test }}\nservers:", "7:39", ["nowhere.test"]),
    "dangling-list": ("[10.1.0.0/16]", '["list:office"]', "10:21", ["office"]),
    "dangling-scope": ('"127.0.0.1:2526"]', '"127.0.0.1:2526"], servers: [inside]', None, ["inside"]),
    "host-bits": ("10.1.0.0/16", "10.1.2.3/16", "10:21", ["10.1.2.3/16", "10.1.0.0/16"]),
    "prefix-too-long": ("10.1.0.0/16", "10.1.0.0/33", "10:21", ["33"]),
    "only-and-except": ("only: [10.1.0.0/16]", "only: [10.1.0.0/16], except: [10.1.2.3]", None, ["only", "except"]),
    "empty-except": ("only: [10.1.0.0/16]", "except: []", None, ["except"]),
    "duplicate-key": ("    relay:", '    listen: ["127.0.0.1:0"]\n    relay:', "10:5", ["listen"]),
    "duplicate-domain": ("servers:", "  Contoso.Test: {{ type: local }}\nservers:", "7:3", ["ontoso"]),
    "tab": ("    relay:", "\trelay:", "10:1", []),
    "unclosed": ("[10.1.0.0/16]", "[10.1.0.0/16", None, []),
    "bad-duration": ("servers:", "delivery: {{ expire: 2x }}\nservers:", "7:21", ["2x"]),
    "bad-size": ("    relay:", "    limits: {{ message-size: many }}\n    relay:", "10:29", ["many"]),
    "no-server": (GOOD[GOOD.index("servers:"):], "", None, ["servers"]),
    "bad-smart-host": ('"127.0.0.1:2526"', '"127.0.0.1:port"', "12:47", ["port"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file(tmp_path, name):
    """An administrator at night needs the line, the mistake and the remedy; and the daemon must not run on a guess."""
    old, new, where, words = BAD[name]
    assert old in GOOD
    text = GOOD.replace(old, new, 1).format(directory=tmp_path, user=base(tmp_path)["user"])
    path, result = check(tmp_path, text)
    said = result.stdout + result.stderr
    assert result.returncode == 3, said
    found = re.findall(rf"^{re.escape(str(path))}:(\d+:\d+): (.+)$", said, re.MULTILINE)
    assert found, f"no FILE:LINE:COLUMN in {said}"
    if where:
        assert where in [position for position, _ in found], said
    for word in words:
        assert word in said, said
    started = start(path)
    assert started.returncode == 78, started.stderr
    assert str(path) in started.stderr


def test_all_mistakes_at_once(tmp_path):
    """Fixing one mistake for each run of the program is a bad evening."""
    text = good(tmp_path).replace("type: local", "type: lokal").replace("10.1.0.0/16", "10.1.2.3/16").replace("hostname:", "hostnam:")
    _, result = check(tmp_path, text)
    assert result.returncode == 3
    said = result.stdout + result.stderr
    assert all(word in said for word in ("lokal", "10.1.2.3/16", "hostnam")), said


def test_unreadable_file(tmp_path):
    path, result = check(tmp_path, None)
    assert result.returncode == 3
    assert str(path) in result.stdout + result.stderr
    assert start(path).returncode == 78


def write_cycle(path, text):
    path.write_text(text + "include: [one.yaml]\n")
    (path.parent / "one.yaml").write_text("include: [two.yaml]\n")
    (path.parent / "two.yaml").write_text("include: [one.yaml]\n")


def write_huge(path, text):
    path.write_bytes(text.encode() + b"# padding\n" * (50 * 1024 * 1024 // 10))


# How a file comes to be that nobody would write, but a broken disk, program or attacker does; and words of what is said to it.
HOSTILE = {
    "cycle-of-includes": (write_cycle, ["one.yaml", "itself"]),
    "itself": (lambda path, text: path.write_text(text + "include: [postern.yaml]\n"), ["itself"]),
    "missing-include": (lambda path, text: path.write_text(text + "include: [no-such.yaml]\n"), ["no-such.yaml"]),
    "directory": (lambda path, text: (path.unlink(missing_ok=True), path.mkdir()), ["directory"]),
    "50-megabytes": (write_huge, ["8 MiB"]),
    "deep-nesting": (lambda path, text: path.write_text(text + "lists: " + "[" * 100000 + "]" * 100000 + "\n"), ["deep"]),
    "deep-maps": (lambda path, text: path.write_text(text + "delivery:\n" + "".join(" " * n + "a:\n" for n in range(1, 400))), []),
    "invalid-utf-8": (lambda path, text: path.write_bytes(text.encode() + b"log: { to: /tmp/\xff\xfe }\n"), ["UTF-8"]),
    "nul": (lambda path, text: path.write_bytes(text.encode() + b"log: { to: a\0b }\n"), []),
    "bomb": (lambda path, text: path.write_text(
        text + "lists:\n  a: &a [1, 1]\n" + "".join(f"  {chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20))),
             ["nchor"]),
    "empty": (lambda path, text: path.write_text(""), ["servers"]),
    "binary": (lambda path, text: path.write_bytes(bytes(range(256)) * 64), []),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file(tmp_path, name):
    """Each gets a clear message that names the file, soon, and nothing starts."""
    write, words = HOSTILE[name]
    path = tmp_path / "postern.yaml"
    write(path, good(tmp_path))
    _, result = check(tmp_path, None)
    said = result.stdout + result.stderr
    assert result.returncode == 3, said[:1000]
    assert str(tmp_path) in said and len(said) < 100000, said[:1000]
    for word in words:
        assert word in said, said[:1000]
    started = start(path)
    assert started.returncode == 78 and str(tmp_path) in started.stderr, started.stderr[:1000]


def test_hostile_files_at_reload(place):
    """None of them disturbs a daemon that runs: it says why, and goes on under the configuration that it has."""
    relay = place.postern()
    good_text = relay.config_path.read_text()
    for name, (write, words) in HOSTILE.items():
        if name == "directory":
            continue
        write(relay.config_path, good_text)
        since = relay.log.position()
        assert relay.reload()["event"] == "reload-failed", name
        said = "\n".join(event.get("text", "") for event in relay.log.find("configuration-error", since))
        assert str(relay.directory) in said, (name, said[:1000])
        for word in words:
            assert word in said, (name, said[:1000])
        deliver(relay.address(), "u@example.org", "alice@contoso.test", letter(token()))
    relay.write_config(good_text)
    assert relay.reload()["event"] == "reloaded"


def test_usage():
    """Scripts tell a wrong call (2) from a wrong file (3)."""
    for arguments in ([], ["no-such-command"], ["check", "--no-such-option"]):
        result = subprocess.run([program("postern"), *arguments], capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert result.returncode == 2, (arguments, result)
    result = subprocess.run([program("postern"), "--help"], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert result.returncode == 0 and "check" in result.stdout


def test_include(tmp_path):
    """Site and role files are merged; a mistake is told by the file that it stands in; one leaf in two files is an error."""
    (tmp_path / "conf.d").mkdir()
    more = tmp_path / "conf.d" / "more.yaml"
    more.write_text("domains:\n  fabrikam.test: { type: allowed }\n")
    text = good(tmp_path) + "include: [conf.d/*.yaml]\n"
    _, result = check(tmp_path, text)
    assert result.returncode == 0, result.stdout + result.stderr
    more.write_text("domains:\n  fabrikam.test: { type: alowed }\n")
    _, result = check(tmp_path, text)
    assert result.returncode == 3 and "more.yaml:2:26: " in result.stdout + result.stderr, result
    more.write_text("hostname: other.test\n")
    _, result = check(tmp_path, text)
    assert result.returncode == 3 and "hostname" in result.stdout + result.stderr, result


def schema():
    """The JSON Schema as `postern schema` prints it."""
    result = subprocess.run([program("postern"), "schema"], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_schema_takes_the_shipped_example():
    """Editors check files by it; it must not complain of what is right."""
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    document = yaml.safe_load((ROOT / "etc" / "postern.yaml").read_text())
    jsonschema.validators.validator_for(schema()).check_schema(schema())
    jsonschema.validate(document, schema())


def test_shipped_schema_is_the_programs():
    """An editor with an old schema complains of new keys."""
    assert json.loads((ROOT / "etc" / "postern.schema.json").read_text()) == schema()


def test_schema_takes_what_these_tests_use_and_refuses_mistakes(tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    document = json.loads(json.dumps(base(tmp_path)))
    jsonschema.validate(document, schema())
    for mistake in ({"hostnam": "x"}, {"servers": {"main": {"rellay": {}}}}, {"servers": {"main": {"listen": 25}}},
                    {"domains": {"x.test": {"type": "lokal"}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(merge(document, mistake), schema())


def test_generated_settings_are_read_back(tmp_path):
    """The tests' own YAML must mean what its dictionary says, or they test something else."""
    yaml = pytest.importorskip("yaml")
    settings = merge(base(tmp_path), {"connectors": {"out": {"address-spaces": ["*"], "smart-hosts": ["127.0.0.1:1"]}}})
    assert yaml.safe_load(to_yaml(settings)) == json.loads(json.dumps(settings))
