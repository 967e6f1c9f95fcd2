#!/usr/bin/env bash
# What the system tests need beside python packages. As root it is installed where it is missing; else it is named, and
# which tests are left out for want of it.
set -euo pipefail

export PATH="$PATH:/usr/sbin:/sbin"
declare -A packages=([sshd]=openssh-server [rsync]=rsync [ip]=iproute2)
lacking=()
for program in "${!packages[@]}"; do
    command -v "$program" >/dev/null || lacking+=("${packages[$program]}")
done

if [[ ${#lacking[@]} -gt 0 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "installing ${lacking[*]}…"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${lacking[@]}" \
        >/dev/null && lacking=()
fi
[[ ${#lacking[@]} == 0 ]] || echo "missing: ${lacking[*]}; tests/system/test_cluster.py is left out"
[[ $(id -u) == 0 ]] || echo "not root: tests/system/test_cluster.py is left out, hosts out of namespaces need it"
