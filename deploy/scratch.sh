#!/usr/bin/env bash
# Builds an image without a base: deploy/scratch.sh path/to/understudy [tag]
#
# The image holds the program, the libraries that `ldd` names, what glibc loads later to resolve names, the trust
# store and one config; no shell, no package manager, a user of its own. Further arguments go to `buildah bud`.
set -euo pipefail

binary=$(realpath "${1:?usage: scratch.sh path/to/understudy [tag] [buildah bud arguments…]}")
tag=${2:-understudy:scratch}
shift "$(($# < 2 ? $# : 2))"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
root=$context/root

install -d "$root/usr/bin" "$root/etc/ssl/certs" "$root/etc/understudy" "$root/usr/share/doc/understudy" \
    "$context/data/understudy-data"
install -d -m 1777 "$context/tmp"
install -m 755 "$binary" "$root/usr/bin/understudy"
strip "$root/usr/bin/understudy"
install -m 644 "$here/understudy.yaml" "$root/etc/understudy/understudy.yaml"
install -m 644 "$here/../LICENSE" "$root/usr/share/doc/understudy/LICENSE"

libraries=$(ldd "$binary" | grep -o '/[^ ]*')
libc=$(grep '/libc\.so\.6$' <<<"$libraries")
for library in $libraries "${libc%/*}"/libnss_files.so.2 "${libc%/*}"/libnss_dns.so.2 "${libc%/*}"/libresolv.so.2; do
    install -D -m 755 "$(realpath "$library")" "$root$library"
done

printf 'understudy:x:65532:65532::/data:/sbin/nologin\n' >"$root/etc/passwd"
printf 'understudy:x:65532:\n' >"$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
if [[ -e /etc/ssl/certs/ca-certificates.crt ]]; then
    install -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
fi

buildah --storage-driver vfs bud --isolation chroot "$@" -f "$here/Containerfile.scratch" -t "$tag" "$context"
