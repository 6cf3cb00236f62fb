# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Everything that can be said about the sources without running them. The functions that may not be used are the compiler's
# business: src/base/banned.h.

# The layout of C differs a little between versions of clang-format; this one decides, others don't check.
clang_format_version=14

c_files() {
    find src tests -name '*.[ch]' -print0
}

format_sources() {
    c_files | xargs -0 -r clang-format -i
}

lint_format() {
    if ! clang-format --version | grep -q "version $clang_format_version\."; then
        echo "(formatting is not checked: that needs clang-format $clang_format_version)"
        return
    fi
    # The names are enough: ./dev format shows and does the rest.
    # shellcheck disable=SC2016 # $1 belongs to the inner shell
    c_files | xargs -0 -r -n 1 -P "$(nproc)" bash -c '
        clang-format --dry-run -Werror "$1" 2>/dev/null || { printf "%s: not laid out (./dev format)\n" "$1"; exit 1; }' bash
}

lint_includes() {
    "$python" tools/lint_includes.py
}

lint_sizes() {
    "$python" tools/lint_sizes.py
}

# Without a build: the flags that matter are few.
lint_analyse() {
    # shellcheck disable=SC2016 # $1 belongs to the inner shell
    find src -name '*.c' -print0 | xargs -0 -r -n 1 -P "$(nproc)" bash -c '
        output=$(clang-tidy --quiet "$1" -- -std=gnu11 -D_GNU_SOURCE "-DPOSTERN_VERSION=\"lint\"" -Isrc \
            -include src/base/banned.h 2>&1) || { printf "%s\n" "$output"; exit 1; }' bash
}

lint_shell() {
    shellcheck -x -a dev .ci/run tools/peers.sh # and what dev reads in: tools/*.sh
}

lint_checks=(includes format sizes shell analyse)

# Runs them all, also after one has failed. Sets lint_passed and lint_failed.
lint_all() {
    local check

    lint_passed=0
    lint_failed=0
    for check in "${lint_checks[@]}"; do
        printf 'lint: %s\n' "$check"
        if "lint_$check"; then
            lint_passed=$((lint_passed + 1))
        else
            printf 'lint: %s FAILED\n' "$check"
            lint_failed=$((lint_failed + 1))
        fi
    done
    [[ $lint_failed -eq 0 ]]
}
