#!/usr/bin/env python3
"""No two headers define a type of one name: the linker would merge their functions without a word, and a program
that frees one as the other crashes. (Types of .cc files belong into an unnamed namespace; this looks at headers.)

usage: tools/check_names.py      exit 0: fine; 1: names that are taken twice, one line each
"""

import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMESPACE = re.compile(r"^(inline )?namespace ([\w:]*)\s*\{")
CLOSE = re.compile(r"^\}  // namespace")
TYPE = re.compile(r"^(?:struct|class|enum class) (\w+)(?: final)?(?: :[^;]*)?\s*(?:\{|$)")


def main():
    places = collections.defaultdict(set)
    for header in sorted([*ROOT.glob("src/**/*.h"), *ROOT.glob("include/**/*.h"), *ROOT.glob("tests/**/*.h")]):
        stack = []
        for line in header.read_text().splitlines():
            if opened := NAMESPACE.match(line):
                stack.append(opened[2] or "(unnamed)")
            elif CLOSE.match(line) and stack:
                stack.pop()
            elif (named := TYPE.match(line)) and "(unnamed)" not in stack:
                places["::".join([*stack, named[1]])].add(str(header.relative_to(ROOT)))
    taken = {name: files for name, files in places.items() if len(files) > 1}
    for name, files in sorted(taken.items()):
        print(f"{name} is defined in {' and in '.join(sorted(files))}: rename one")
    if taken:
        return 1
    print(f"names: {len(places)} types of headers, each defined once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
