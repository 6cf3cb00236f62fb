# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# `./dev test`: goes on after a failure, adds everything up and says so in its last line.

test_parts=(lint release asan tsan fuzz)
e2e_seconds_max=1500
unit_seconds_max=600

# A sanitizer's finding must end the program with a status that no test takes for success.
export ASAN_OPTIONS=${ASAN_OPTIONS:-strict_string_checks=1:exitcode=66}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1:exitcode=66}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1:exitcode=66}

total_passed=0
total_failed=0
total_skipped=0

add_result() {
    total_passed=$((total_passed + $1))
    total_failed=$((total_failed + $2))
    total_skipped=$((total_skipped + ${3:-0}))
    printf '== %s passed, %s failed, %s skipped\n' "$1" "$2" "${3:-0}"
}

# add_junit FILE STATUS
add_junit() {
    local passed failed skipped

    read -r passed failed skipped < <("$python" tools/count_tests.py "$1" "$2")
    add_result "$passed" "$failed" "$skipped"
}

# run_for VARIANT COMMAND... gcc's TSan can't place its shadow memory under a kernel that randomises more address bits than it
# knows of. Not every container lets one switch that off; there it has to do without.
run_for() {
    local variant=$1

    shift
    if [[ $variant == tsan ]] && setarch -R true 2>/dev/null; then
        setarch -R "$@"
    else
        "$@"
    fi
}

# How much longer than in a release build the tests may wait.
time_scale() {
    case $1 in
        asan) echo 3 ;;
        tsan) echo 6 ;;
        *) echo 1 ;;
    esac
}

test_unit() {
    local variant=$1
    local junit=build/$variant/meson-logs/testlog.junit.xml
    local status=0

    printf '\n== %s: unit tests\n' "$variant"
    rm -f -- "$junit"
    run_for "$variant" timeout --foreground -k 10 "$unit_seconds_max" \
        meson test -C "build/$variant" --no-rebuild --print-errorlogs --num-processes "$(nproc)" || status=$?
    add_junit "$junit" "$status"
}

test_e2e() {
    local variant=$1
    local junit=build/$variant/e2e.junit.xml
    local -a selection=()
    local status=0

    printf '\n== %s: end-to-end tests\n' "$variant"
    if [[ -z $(find tests/e2e -name 'test_*.py' -print -quit 2>/dev/null) ]]; then
        echo '(there are none)'
        return
    fi
    if [[ $variant != release ]]; then
        selection=(-m 'not release_only')
    fi
    rm -f -- "$junit"
    POSTERN_BUILD=build/$variant POSTERN_TEST_TIME_SCALE=$(time_scale "$variant") \
        run_for "$variant" timeout --foreground -k 10 "$e2e_seconds_max" \
        "$python" -m pytest tests/e2e -q -n 4 -p no:cacheprovider "--junitxml=$junit" "${selection[@]}" || status=$?
    add_junit "$junit" "$status"
}

test_variant() {
    printf '\n== %s: build\n' "$1"
    if ! build_variant "$1"; then
        add_result 0 1
        return
    fi
    test_unit "$1"
    test_e2e "$1"
}

# Every input that ever mattered, once through its parser.
test_fuzz_corpora() {
    local name

    printf '\n== fuzz: build\n'
    if ! build_variant fuzz; then
        add_result 0 1
        return
    fi
    for name in $(fuzz_names); do
        printf '\n== fuzz: corpus of %s\n' "$name"
        if "build/fuzz/tests/fuzz/fuzz_$name" -runs=0 -timeout=10 -rss_limit_mb=2048 \
            "-artifact_prefix=build/fuzz/$name-" "tests/fuzz/corpus/$name" 2>"build/fuzz/$name.log"; then
            add_result 1 0
        else
            tail -n 50 "build/fuzz/$name.log"
            add_result 0 1
        fi
    done
}

test_lint() {
    printf '\n== lint\n'
    lint_all || true
    add_result "$lint_passed" "$lint_failed"
}

# test_all [PART...]
test_all() {
    local part
    local -a parts=("$@")

    for part in "${parts[@]}"; do
        [[ " ${test_parts[*]} " == *" $part "* ]] || die "there is no part '$part': ${test_parts[*]}"
    done
    if [[ ${#parts[@]} -eq 0 ]]; then
        parts=("${test_parts[@]}")
    fi
    for part in "${parts[@]}"; do
        case $part in
            lint) test_lint ;;
            fuzz) test_fuzz_corpora ;;
            *) test_variant "$part" ;;
        esac
    done
    if [[ $total_skipped -gt 0 ]]; then
        printf '\n(%s skipped)\n' "$total_skipped"
    fi
    printf '\n%s passed, %s failed\n' "$total_passed" "$total_failed"
    [[ $total_failed -eq 0 && $total_passed -gt 0 ]]
}
