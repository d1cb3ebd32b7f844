#!/usr/bin/env bash
# Delays every step of the real engine by 5 % and says how often that is found with as many pairs as the comparison asks
# for, and how often no delay is taken for one: tools/check_delay.sh [BUILD_DIR]
# Opt-in: it judges times. The machine must be idle. Exit 1 when fewer than 15 of 20 are found or more than 1 of 20 called.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

tests=${1:-$root/build}/quench_tests
[ -x "$tests" ] || die "there is no $tests: run make test first."
"$tests" --gtest_also_run_disabled_tests --gtest_filter='LiveCompareDriver.*' --gtest_brief=1
