#!/usr/bin/env bash
# Promise: the scripts are sound: shellcheck finds nothing, each is executable and stops at its first error.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard -- '*.sh' ci/test ci/docker .ci/run)
# SC2016 takes the back-quotes of Markdown in single quotes for forgotten command substitutions.
shellcheck --shell=bash --external-sources --source-path=SCRIPTDIR --exclude=SC2016 "${scripts[@]}"

for script in "${scripts[@]}"; do
    # A lib.sh is sourced, and what sources it has the options.
    [[ $script == */lib.sh ]] && continue
    [ -x "$script" ] || die "$script is not executable: chmod +x $script"
    grep -qE '^source .*lib\.sh"$|^set -euo pipefail$' "$script" ||
        die "$script would go on after an error: source ci/lib.sh, or begin with 'set -euo pipefail'"
done
say "${#scripts[@]} scripts are sound"
