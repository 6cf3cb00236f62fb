#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Files and functions that have grown too long, and files without their licence line."""
import pathlib
import sys

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 90
LICENCE = "SPDX-License-Identifier: Apache-2.0"

C_SUFFIXES = {".c", ".h", ".S"}
SUFFIXES = C_SUFFIXES | {".py", ".sh"}
OTHERS = ["dev", ".ci/run", ".clang-tidy", ".editorconfig"]


def source_files():
    for folder in ("src", "tests", "tools"):
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file() and "corpus" not in path.parts:
                yield path
    yield from map(pathlib.Path, OTHERS)


def long_functions(lines):
    """The layout puts the braces of a function, and of nothing else, alone at the start of a line."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            if number - start - 1 > FUNCTION_LINES_MAX:
                yield start - 1, number - start - 1
            start = None


def faults(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    # A program's first line says who runs it.
    licence_at = 1 if lines and lines[0].startswith("#!") else 0
    if len(lines) <= licence_at or LICENCE not in lines[licence_at]:
        yield licence_at + 1, f"no {LICENCE}"
    if len(lines) > FILE_LINES_MAX:
        yield len(lines), f"{len(lines)} lines, more than {FILE_LINES_MAX}: split it"
    if path.suffix in C_SUFFIXES:
        for number, length in long_functions(lines):
            yield number, f"a function of {length} lines, more than {FUNCTION_LINES_MAX}"


def main():
    count = 0
    for path in source_files():
        for number, fault in faults(path):
            print(f"{path}:{number}: {fault}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
