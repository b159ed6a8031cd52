#!/usr/bin/env bash
# Promise: the scripts are sound: shellcheck finds nothing, each is executable and stops at its first error.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard -- 'ci/*.sh' ci/test .ci/run)
shellcheck --shell=bash --external-sources --source-path=SCRIPTDIR "${scripts[@]}"

for script in "${scripts[@]}"; do
    # lib.sh is sourced and sets the options for all that source it.
    [ "$script" = ci/lib.sh ] && continue
    [ -x "$script" ] || die "$script is not executable: chmod +x $script"
    grep -qE '^source .*lib\.sh"$|^set -euo pipefail$' "$script" ||
        die "$script would go on after an error: source ci/lib.sh, or begin with 'set -euo pipefail'"
done
say "${#scripts[@]} scripts are sound"
