#!/usr/bin/env bash
# Promise: the Kubernetes manifests are valid by the published schemas, and the configuration in them is right.
#
#   ci/manifests.sh [FILE…]   without FILE: those of deploy/kubernetes
#
# kubernetes-validate (PyPI) brings the schemas along; it is installed below the target directory, some seconds the first time.
# Needs python3 with venv.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The first with sidecars, which are init containers that go on; and the newest that the checker has.
VERSIONS=(1.29 1.37)

# Pinned, what it needs included: a new checker may find something else in an unchanged tree.
PACKAGES=(
    kubernetes-validate==1.37.0 attrs==26.1.0 importlib_resources==7.1.0 jsonschema==4.26.0
    jsonschema-specifications==2025.9.1 packaging==26.4 PyYAML==6.0.4 referencing==0.37.0 rpds-py==2026.9.1
    typing_extensions==4.16.0
)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# One folder for each list of packages; the last thing that is written to it says that it is whole.
checker="$TARGET_DIR/kubernetes-validate-$(printf '%s\n' "${PACKAGES[@]}" | sha256sum | cut -c 1-12)"
if [ ! -e "$checker/whole" ]; then
    say "installing ${PACKAGES[0]}"
    rm -rf "$checker"
    python3 -m venv "$checker" || die 'python3 cannot make a venv: run ci/deps.sh'
    "$checker/bin/pip" install --quiet --disable-pip-version-check --no-compile --no-deps "${PACKAGES[@]}"
    touch "$checker/whole"
fi

# valid VERSION FILE
valid() {
    "$checker/bin/kubernetes-validate" --kubernetes-version "$1" --strict "$2"
}

# refused WHAT SED FILE: with a mistake made in it, the file is not valid, and the checker names the mistake. One that passes
# everything, or does not run at all, would otherwise promise what it does not look at.
refused() {
    sed -E "$2" "$3" >"$scratch/broken.yaml"
    ! cmp -s "$3" "$scratch/broken.yaml" || die "$3 has nothing that could be broken by $2"
    ! valid "${VERSIONS[0]}" "$scratch/broken.yaml" >"$scratch/said" 2>&1 || die "the checker lets this pass: $2"
    grep -qF -- "$1" "$scratch/said" || { cat "$scratch/said" >&2 && die "the checker does not name $1 after $2"; }
}

manifests=("$@")
[ "$#" -gt 0 ] || manifests=(deploy/kubernetes/*.yaml)
for manifest in "${manifests[@]}"; do
    for version in "${VERSIONS[@]}"; do
        valid "$version" "$manifest" || die "$manifest is not valid by the schemas of Kubernetes $version"
    done
done

refused capabilties 's/^( *)capabilities:/\1capabilties:/' deploy/kubernetes/mmproxy.yaml
refused replicas 's/^( *)replicas: .*/\1replicas: two/' deploy/kubernetes/mmproxy.yaml
refused selector '/^  selector:$/,/^      app:/ { /^  template/! d }' deploy/kubernetes/mmproxy.yaml

debug_build mmproxy
sed -n '/^  mmproxy.toml: |$/,/^---$/ s/^    //p' deploy/kubernetes/mmproxy.yaml >"$scratch/mmproxy.toml"
[ -s "$scratch/mmproxy.toml" ] || die 'there is no configuration in deploy/kubernetes/mmproxy.yaml'
"$TARGET_DIR/debug/mmproxy" config check --config "$scratch/mmproxy.toml"
say "manifests are valid by the schemas of Kubernetes ${VERSIONS[*]}, and broken ones are not"
