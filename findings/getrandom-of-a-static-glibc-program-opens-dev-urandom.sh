#!/usr/bin/env bash
# getrandom 0.4.3 with its usual backend asks the kernel (the call of the same name) in a program that is linked with glibc
# dynamically. The same program linked statically (target-feature=+crt-static) opens /dev/random and /dev/urandom in its place, on a kernel
# that has the call, and so fails where a container or chroot has no /dev. The backend linux_getrandom does not.
#
# Seen with Rust 1.95, glibc 2.36: each line of EXPECTED. The script fails where that has changed. It needs a C compiler and strace.
set -euo pipefail

EXPECTED='dynamic: no file
static: /dev/random /dev/urandom
static, linux_getrandom: no file'

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat > "$folder/Cargo.toml" <<'END'
[package]
name = "asks"
version = "0.1.0"
edition = "2024"

[dependencies]
getrandom = "=0.4.3"
END
cat > "$folder/src/main.rs" <<'END'
fn main() {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
}
END

target=x86_64-unknown-linux-gnu
opened() {
    RUSTFLAGS=$2 cargo build --quiet --manifest-path "$folder/Cargo.toml" --target "$target" --target-dir "$folder/$1"
    files=$(strace -f -e trace=openat "$folder/$1/$target/debug/asks" 2>&1 | grep -o '/dev/[a-z]*random' | xargs)
    echo "$1: ${files:-no file}"
}
seen=$(
    opened dynamic ''
    opened static '-Ctarget-feature=+crt-static'
    opened 'static, linux_getrandom' '-Ctarget-feature=+crt-static --cfg getrandom_backend="linux_getrandom"'
)
echo "$seen"
[ "$seen" = "$EXPECTED" ] || { echo "this has changed" >&2; exit 1; }
