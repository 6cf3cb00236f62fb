#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""count_tests.py FILE EXIT_STATUS: prints "PASSED FAILED SKIPPED" for a JUnit file and the exit status of who wrote it.

A runner that failed without naming a failed test (it crashed, or ran out of time) counts as one failure, so that nothing that
went wrong can look like success."""
import sys
import xml.etree.ElementTree


def count(path):
    passed = failed = skipped = 0
    try:
        tree = xml.etree.ElementTree.parse(path)
    except (OSError, xml.etree.ElementTree.ParseError):
        return 0, 0, 0
    for case in tree.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def main():
    passed, failed, skipped = count(sys.argv[1])
    if sys.argv[2] != "0" and failed == 0:
        failed = 1
    print(passed, failed, skipped)


if __name__ == "__main__":
    main()
