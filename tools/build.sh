# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Builds the variants into build/VARIANT/, and says which benchmarks and fuzz targets there are.

is_variant() {
    case $1 in
        release | debug | asan | tsan | fuzz) true ;;
        *) false ;;
    esac
}

# The options of a variant. What only our own code needs (warnings, hardening) stands in meson.build.
variant_options() {
    case $1 in
        release) printf '%s\n' -Doptimization=2 -Ddebug=true -Db_pie=true ;;
        debug) printf '%s\n' -Doptimization=0 -Ddebug=true ;;
        asan) printf '%s\n' -Doptimization=1 -Ddebug=true -Db_sanitize=address,undefined -Db_lundef=false ;;
        tsan) printf '%s\n' -Doptimization=1 -Ddebug=true -Db_sanitize=thread -Db_lundef=false ;;
        fuzz)
            printf '%s\n' -Doptimization=1 -Ddebug=true -Db_sanitize=address,undefined -Db_lundef=false \
                -Dc_args=-fsanitize=fuzzer-no-link
            ;;
    esac
}

build_variant() {
    local variant=$1
    local directory=build/$variant
    local compiler=gcc
    local -a options

    if [[ $variant == fuzz ]]; then
        compiler=clang # libFuzzer is clang's
    fi
    if [[ ! -e $directory/build.ninja ]]; then
        mapfile -t options < <(variant_options "$variant")
        # A folder that a failed or interrupted setup left behind is no build folder; meson would not take it.
        rm -rf -- "$directory"
        CC=$compiler meson setup "$directory" "-Dvariant=$variant" "${options[@]}" || return
    fi
    ninja -C "$directory" --quiet
}

bench_names() {
    find tests/bench -maxdepth 1 \( -name '*.py' -o -name '*.c' \) -printf '%f\n' | sed 's/\.[a-z]*$//' | sort -u | paste -sd ' '
}

fuzz_names() {
    find tests/fuzz -maxdepth 1 -name '*.c' -printf '%f\n' | sed 's/\.c$//' | sort | paste -sd ' '
}
