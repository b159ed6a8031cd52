#!/usr/bin/env bash
# Promise: the Kubernetes manifests are valid by the published schemas, and the configuration in them is right.
#
# Needs kubernetes-validate (PyPI), which brings the schemas along.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

have kubernetes-validate || die 'kubernetes-validate is missing: pip install kubernetes-validate'

# The first with sidecars, which are init containers that go on.
VERSION=1.29

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for manifest in deploy/kubernetes/*.yaml; do
    kubernetes-validate --kubernetes-version "$VERSION" --strict "$manifest" || die "$manifest is not valid"
    # A checker that passes everything would pass this too.
    sed 's/^\( *\)capabilities:/\1capabilties:/' "$manifest" >"$scratch/broken.yaml"
    ! kubernetes-validate --kubernetes-version "$VERSION" --strict "$scratch/broken.yaml" >/dev/null 2>&1 ||
        die 'kubernetes-validate lets a misspelt key pass'
done

cargo build --locked -p mmproxy
sed -n '/^  mmproxy.toml: |$/,/^---$/ s/^    //p' deploy/kubernetes/mmproxy.yaml >"$scratch/mmproxy.toml"
"$TARGET_DIR/debug/mmproxy" config check --config "$scratch/mmproxy.toml"
say "manifests are valid by the schemas of Kubernetes $VERSION"
