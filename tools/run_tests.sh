#!/usr/bin/env bash
# Runs every test of a build folder and says how many there were: tools/run_tests.sh [BUILD_DIR]
# CTest runs the test binary as a few shards (see CMakeLists.txt) and would count those; each shard writes what it ran
# to BUILD_DIR/test-results, and the closing line adds up the real tests. No test at all is a failure.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

build=${1:-$root/build}
[ -f "$build/CTestTestfile.cmake" ] || die "$build has no tests: run make test."
rm -rf "$build/test-results"
mkdir -p "$build/test-results"

status=0
ctest --test-dir "$build" --output-on-failure -j "$(nproc)" --output-junit test-results/ctest.xml </dev/null || status=$?

python3 - "$build/test-results" $status <<'PYTHON'
import json, pathlib, sys
from xml.etree import ElementTree

folder, ctest_status = pathlib.Path(sys.argv[1]), int(sys.argv[2])
passed = failed = skipped = 0
report = folder / "ctest.xml"
for case in ElementTree.parse(report).getroot().iter("testcase") if report.exists() else []:
    counts = folder / f"{case.get('name')}.json"
    if not counts.exists():
        # Not a shard of the test binary, or one that died before it could report: counts as one.
        skip = case.find("skipped") is not None
        bad = case.get("status") == "fail"
        skipped, failed, passed = skipped + skip, failed + bad, passed + (not skip and not bad)
        continue
    before = failed
    for suite in json.loads(counts.read_text())["testsuites"]:
        for test in suite["testsuite"]:
            if "failures" in test:
                failed += 1
            elif test["result"] == "COMPLETED":
                passed += 1
            else:
                skipped += 1
    if case.get("status") == "fail" and failed == before:
        failed += 1  # every test passed, then the process failed: a leak report, for example
print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
if passed == 0 and failed == 0:
    print("run_tests.sh: no test ran.", file=sys.stderr)
    sys.exit(1)
sys.exit(ctest_status or failed > 0)
PYTHON
