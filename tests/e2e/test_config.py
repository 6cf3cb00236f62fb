# SPDX-License-Identifier: Apache-2.0
"""Configuration files: what is wrong with one, where, and what would be right; nothing starts with a bad one."""
import json
import re
import subprocess

import pytest

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
