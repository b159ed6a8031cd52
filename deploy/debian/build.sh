#!/usr/bin/env bash
# Builds the Debian package of an executable, and prints its path.
#
#   deploy/debian/build.sh EXECUTABLE [REVISION [DIRECTORY]]
#
# REVISION is 1 and DIRECTORY is target/debian unless told otherwise. Needs dpkg-dev, no root and no network.
set -euo pipefail

if [ "$#" -lt 1 ] || [ "$#" -gt 3 ]; then
    echo "usage: ${0##*/} EXECUTABLE [REVISION [DIRECTORY]]" >&2
    exit 64
fi
executable=$(realpath "$1")
revision=${2:-1}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
directory=$(realpath -m "${3:-target/debian}")
version=$("$executable" --version | sed -nE 's/^mmproxy ([0-9][^ ]*).*/\1/p')
architecture=$(dpkg --print-architecture)
package=$directory/mmproxy_$version-${revision}_$architecture.deb
mkdir -p "$directory"
root=$(mktemp -d "$directory/build.XXXXXX")
trap 'rm -rf "$root"' EXIT
umask 022
chmod 755 "$root"

# place MODE DIRECTORY FILE…: files of the tree under their own names.
place() { install -D -m "$1" -t "$root/$2" "${@:3}"; }
# made PATH: what standard input says.
made() { mkdir -p "$(dirname "$root/$1")"; cat >"$root/$1"; }

# --- the program, and what it knows of itself ------------------------------------------------------------

install -D -m 755 "$executable" "$root/usr/sbin/mmproxy"
strip --strip-debug "$root/usr/sbin/mmproxy"
"$executable" man mmproxy | gzip -9n | made usr/share/man/man8/mmproxy.8.gz
"$executable" man mmproxy.toml | gzip -9n | made usr/share/man/man5/mmproxy.toml.5.gz
"$executable" completions bash | made usr/share/bash-completion/completions/mmproxy
"$executable" completions zsh | made usr/share/zsh/vendor-completions/_mmproxy
"$executable" completions fish | made usr/share/fish/vendor_completions.d/mmproxy.fish
"$executable" config schema | made usr/share/mmproxy/mmproxy.schema.json
# Who may connect is for the operator to say; until then nothing starts. The unit makes /run/mmproxy.
"$executable" config example | sed -E 's|^(allow = .*)|#\1|; s|^#(control = "/run/mmproxy/.*)|\1|' | made etc/mmproxy/mmproxy.toml
[ "$(grep -cE '^#allow = |^control = ' "$root/etc/mmproxy/mmproxy.toml")" -eq 2 ] ||
    { echo 'the example has other lines than this script looks for' >&2; exit 1; }

# --- files of the tree -----------------------------------------------------------------------------------

place 644 lib/systemd/system deploy/systemd/mmproxy.service deploy/systemd/mmproxy.socket
# Debian 12 has systemd 252: where there is such an old one, postinst puts it among the drop-ins.
place 644 usr/share/mmproxy deploy/systemd/before-253.conf
place 644 usr/share/mmproxy/allow deploy/allow/*.txt
# Beside the lists that they name.
place 644 usr/share/mmproxy/recipes deploy/recipes/*.toml
for example in grafana prometheus fail2ban; do
    [ ! -d "deploy/$example" ] || { mkdir -p "$root/usr/share/doc/mmproxy/examples" && cp -r "deploy/$example" "$root/usr/share/doc/mmproxy/examples/"; }
done
chmod -R u=rwX,go=rX "$root/usr/share/doc"
place 644 usr/share/doc/mmproxy LICENSE-MIT LICENSE-APACHE
sed -n '/^\[workspace.package\]/,/^$/ s/^license = "\(.*\)"/License: \1; the texts are beside this file./p' Cargo.toml | made usr/share/doc/mmproxy/copyright

# --- what dpkg wants to know -----------------------------------------------------------------------------

# What it is linked with, in which versions: dpkg-shlibdeps wants a source package around it.
mkdir -p "$root/DEBIAN" "$root/debian"
echo 'Source: mmproxy' | made debian/control
depends=$(cd "$root" && dpkg-shlibdeps -O usr/sbin/mmproxy 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
rm -rf "$root/debian"
[ -n "$depends" ] || { echo 'dpkg-shlibdeps does not say what the executable needs' >&2; exit 1; }
made DEBIAN/control <<END
Package: mmproxy
Version: $version-$revision
Architecture: $architecture
Maintainer: The mmproxy developers
Installed-Size: $(du -sk --exclude DEBIAN "$root" | cut -f 1)
Depends: $depends
Suggests: nftables
Section: net
Priority: optional
Description: real client addresses for servers behind a load balancer
 Accepts connections and datagrams that begin with a PROXY protocol header,
 and connects to a server from the client's own address, so that the server
 sees, logs and limits the client instead of the load balancer.
END
echo /etc/mmproxy/mmproxy.toml | made DEBIAN/conffiles
place 755 DEBIAN deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm
(cd "$root" && find etc lib usr -type f -print0 | sort -z | xargs -0 md5sum) | made DEBIAN/md5sums

dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
printf '%s\n' "$package"
