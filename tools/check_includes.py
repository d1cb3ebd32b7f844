#!/usr/bin/env python3
"""The layer rule over the #include lines (and #if lines) of src/, include/ and tests/.

A file includes only folders with a lower number than its own, or its own folder; see LAYERS. The other rules
keep instruction sets, CUDA and concrete devices behind the one folder that owns them; see docs/architecture.md.

usage: tools/check_includes.py [--self-test] [ROOT]      exit 0: fine; 1: broken rules, one line each on stdout
"""

import pathlib
import re
import sys
import tempfile

# First folder below src/ -> layer number. Same number, different folder (io, text): they do not see each other.
LAYERS = {
    "base": 0,
    "formats": 1,
    "io": 2,
    "text": 2,
    "devices": 3,
    "models": 4,
    "plan": 5,
    "engine": 6,
    "quantize": 7,
    "measure": 8,
    "apps": 9,
}

# Headers that cmake/registry.cmake generates into the build folder. They are the one door from the generic code to
# the concrete formats, devices, families and algorithms, so they are not below src/ and belong to no layer.
GENERATED = re.compile(r"^(registry|generated)[/._]")

# (file pattern, included header pattern): allowed although a rule says no. Keep it short, give each line its reason.
EXCEPTIONS = [
    # Asking the CPU what it can do is itself a matter of instruction sets.
    (r"src/base/cpuinfo(_test)?\.(h|cc)", r"cpuid\.h|#if .*"),
    # The factory behind devices/device.h: the one place that names the concrete devices.
    (r"src/devices/device\.cc", r"devices/(cpu|cuda)/\w+_device\.h"),
    # Fast kernels are tested against each other and against ref/, folder by folder.
    (r"src/devices/.*_test\.cc", r"devices/cpu/.*|devices/cuda/.*"),
]

SOURCE_SUFFIXES = {".h", ".cc", ".cu", ".cuh", ".inc"}
INTRINSICS = re.compile(r"^(x86intrin|x86gprintrin|.*mmintrin|immintrin|avx.*intrin|amx.*intrin|arm_.*|cpuid)\.h$")
CUDA = re.compile(r"^(cuda|cuda_.*|cudart.*|cublas.*|cudnn.*|curand.*|cusparse.*|nvml|nvrtc|nccl|mma|"
                  r"device_launch_parameters|cooperative_groups.*|(cub|thrust|cutlass|cute|cuda|nv|nvtx3)/.*)(\.h|\.cuh|\.hpp)?$")
MACHINE_MACRO = re.compile(r"\b(__AVX\w*|__SSE\w*|__AMX\w*|__FMA__|__F16C__|__BMI2?__|__GFNI__|__x86_64(__)?|"
                           r"__i386__|__aarch64__|__ARM\w*|__CUDA\w*|__NVCC__|QUENCH_\w*(CUDA|AVX|AMX|SSE)\w*)")
# Kernels of one instruction set: nothing whose inline code the compiler could emit with that set (weak copies).
ISA_SYSTEM = {"immintrin.h", "cstdint", "cstddef"}
ISA_OWN = re.compile(r"^devices/(cpu/)?(ops|phases|matmul|probes|isa|strip_pack|args|\w+_args|\w+_inl)\.h$")

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
CONDITION = re.compile(r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b(.*)")


def isa_folder(path):
    """'avx512' for src/devices/cpu/avx512/x.cc; None elsewhere, ref/ included: it is plain C++."""
    parts = path.split("/")
    if len(parts) > 4 and parts[:3] == ["src", "devices", "cpu"] and parts[3] != "ref":
        return parts[3]
    return None


def excepted(path, target):
    return any(re.fullmatch(file, path) and re.fullmatch(header, target) for file, header in EXCEPTIONS)


def resolve(root, path, header):
    """The path below the root of a quoted include, or None when no such file is there."""
    for base in ("src", "include", "tests", str(pathlib.PurePosixPath(path).parent)):
        if (root / base / header).is_file():
            return (pathlib.PurePosixPath(base) / header).as_posix()
    return None


def system_include(path, header):
    """The complaint about <header> in the file, or None."""
    isa = isa_folder(path)
    if path.startswith("include/"):
        if not re.fullmatch(r"[a-z_0-9]+|tl/expected\.hpp|quench/.*", header):
            return f"<{header}>: the public headers include only the standard library, tl/expected.hpp and quench/"
    if isa is not None and header not in ISA_SYSTEM:
        return f"<{header}>: kernels of one instruction set include only {', '.join(sorted(ISA_SYSTEM))}"
    if INTRINSICS.match(header) and isa is None:
        return f"<{header}>: intrinsics belong in src/devices/cpu/<isa>/"
    if CUDA.match(header) and not path.startswith("src/devices/cuda/"):
        return f"<{header}>: CUDA headers belong in src/devices/cuda/"
    return None


def own_include(root, path, header):
    """The complaint about "header" in the file, or None."""
    if GENERATED.match(header):
        return None
    if ".." in header.split("/"):
        return f'"{header}": write the path from src/ on'
    target = resolve(root, path, header)
    if target is None:
        return f'"{header}" is neither below src/ nor include/; write third-party headers in angle brackets'
    if path.startswith("include/"):
        return None if target.startswith("include/") else f'"{header}": the public headers include nothing of src/'
    if path.startswith("tests/") or target.startswith("include/"):
        return None
    if target.startswith("tests/"):
        return None if path.endswith("_test.cc") else f'"{header}": only tests include tests/'
    folder, target_folder = path.split("/")[1], target.split("/")[1]
    if folder not in LAYERS:
        return f"src/{folder}/ has no layer number: give it one in tools/check_includes.py and docs/architecture.md"
    if target_folder not in LAYERS:
        return f'"{header}": src/{target_folder}/ has no layer number'
    isa = isa_folder(path)
    target_isa = isa_folder(target)
    if isa is not None:
        if target_isa == isa or ISA_OWN.match(header):
            return None
        return f'"{header}": kernels of one instruction set include only argument structs, *_inl.h and their own folder'
    layer, target_layer = LAYERS[folder], LAYERS[target_folder]
    concrete = re.match(r"src/devices/(cpu|cuda)/", target)
    if folder != "devices" and concrete:
        return f'"{header}": only src/devices/ sees a concrete device; ask the factory in devices/device.h'
    if folder == "devices" and concrete and not path.startswith(concrete.group(0)):
        return f'"{header}": src/devices/{concrete.group(1)}/ is seen by its own folder only'
    if folder == "models" and target_folder == "io":
        return f'"{header}": a model family reads no files'
    if folder == "apps" and target == "src/devices/tensor.h":
        return f'"{header}": the command line never sees a tensor'
    if folder == target_folder:
        return None
    if path.endswith("_test.cc"):
        # A test may build its inputs with anything below the command line.
        return None if target_folder != "apps" else f'"{header}": only src/apps/ includes src/apps/'
    if target_layer >= layer:
        return f'"{header}": layer {layer} ({folder}) includes only lower layers, {target_folder} is {target_layer}'
    return None


def check_file(root, path):
    """Complaints about one file: 'path:line: what'."""
    complaints = []
    may_ask_machine = isa_folder(path) is not None or path.startswith("src/devices/cuda/")
    # A backslash at a line's end continues it; keep the number of the first line.
    pending, first = "", 0
    for number, line in enumerate((root / path).read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        first = first if pending else number
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        line, pending = pending, ""
        include, condition = INCLUDE.match(line), CONDITION.match(line)
        what, target = None, ""
        if include:
            target = include.group(1) or include.group(2)
            if include.group(1):
                what = own_include(root, path, target)
            elif target.startswith("quench/"):
                what = f'<{target}>: write our own headers in quotes' if not path.startswith("include/") else None
            else:
                what = system_include(path, target)
        elif condition and not may_ask_machine and MACHINE_MACRO.search(condition.group(1)):
            target = "#if " + condition.group(1).strip()
            what = (f"'{line.strip()}': the build chose the instruction set or CUDA by folder; "
                    "no file outside devices/cpu/<isa>/ and devices/cuda/ asks again")
        if what and not excepted(path, target):
            complaints.append(f"{path}:{first}: {what}")
    return complaints


def check_tree(root):
    complaints, count = [], 0
    for top in ("include", "src", "tests"):
        for file in sorted((root / top).rglob("*")):
            if file.is_file() and file.suffix in SOURCE_SUFFIXES:
                count += 1
                complaints += check_file(root, file.relative_to(root).as_posix())
    return complaints, count


# --- self-test: small trees, each breaking one rule ---------------------------------------------------------------

# A tree that keeps every rule and touches most of them.
GOOD = {
    "include/quench/engine.h": "#include <string>\n#include <tl/expected.hpp>\n#include \"quench/result.h\"\n",
    "include/quench/result.h": "#include <tl/expected.hpp>\n",
    "src/base/file.h": "#include <sys/mman.h>\n#include \"quench/result.h\"\n",
    "src/base/cpuinfo.cc": "#include <cpuid.h>\n#if defined(__x86_64__)\n#endif\n",
    "src/formats/format.h": "#include \"base/file.h\"\n",
    "src/io/checkpoint.h": "#include \"formats/format.h\"\n",
    "src/text/tokenizer.h": "#include \"base/file.h\"\n",
    "src/text/tokenizer_test.cc": "#include <gtest/gtest.h>\n#include \"io/checkpoint.h\"\n#include \"text/tokenizer.h\"\n",
    "src/devices/tensor.h": "#include \"formats/format.h\"\n",
    "src/devices/device.h": "#include \"devices/tensor.h\"\n#include \"registry.h\"\n",
    "src/devices/cpu/cpu_device.h": "#include \"devices/device.h\"\n",
    "src/devices/device.cc": "#include \"devices/cpu/cpu_device.h\"\n",
    "src/devices/ops.h": "#include <cstdint>\n",
    "src/devices/cpu/generic_inl.h": "#include <cstdint>\n",
    "src/devices/cpu/cpu_device.cc": "#include \"devices/cpu/generic_inl.h\"\n#include \"devices/device.h\"\n",
    "src/devices/cpu/ref/norm.cc": "#include <cmath>\n#include \"devices/ops.h\"\n",
    "src/devices/cpu/avx512/norm.cc":
        "#include <immintrin.h>\n#include <cstdint>\n#include \"devices/cpu/generic_inl.h\"\n#include \"devices/ops.h\"\n"
        "#ifdef __AVX512VNNI__\n#endif\n",
    "src/devices/cuda/norm.cu": "#include <cuda_runtime.h>\n#include \"devices/ops.h\"\n#ifdef __CUDA_ARCH__\n#endif\n",
    "src/models/family.h": "#include \"devices/device.h\"\n",
    "src/apps/main.cc": "#include <CLI/CLI.hpp>\n#include \"models/family.h\"\n#include \"quench/engine.h\"\n",
    "tests/cli/cli_test.cc": "#include \"devices/tensor.h\"\n",
}
# (file, its bad content, a word of the complaint). Every one must be refused, with that complaint.
BAD = [
    ("src/base/bad.h", '#include "formats/format.h"\n', "lower layers"),
    ("src/formats/bad.h", '#include "io/checkpoint.h"\n', "lower layers"),
    ("src/text/bad.cc", '#include "io/checkpoint.h"\n', "lower layers"),
    ("src/io/bad.cc", '#include "text/tokenizer.h"\n', "lower layers"),
    ("src/io/bad_indented.cc", '  #  include   "text/tokenizer.h"\n', "lower layers"),
    ("src/io/bad_relative.cc", '#include "../devices/tensor.h"\n', "from src/ on"),
    ("src/models/bad.cc", '#include "io/checkpoint.h"\n', "reads no files"),
    ("src/models/bad2.cc", '#include "devices/cpu/generic_inl.h"\n', "concrete device"),
    ("src/apps/bad.cc", '#include "devices/tensor.h"\n', "never sees a tensor"),
    ("src/apps/bad2.cc", '#include "devices/cpu/generic_inl.h"\n', "concrete device"),
    ("src/measure/bad_test.cc", '#include "apps/verb.h"\n', "only src/apps/"),
    ("src/apps/verb.h", '#include "missing.h"\n', "neither below"),
    ("src/devices/bad.cc", '#include "devices/cpu/generic_inl.h"\n', "own folder only"),
    ("src/devices/bad2.cc", "#include <immintrin.h>\n", "intrinsics"),
    ("src/devices/cpu/ref/bad.cc", "#include <immintrin.h>\n", "intrinsics"),
    ("src/devices/bad3.cc", "#include <cuda_runtime.h>\n", "CUDA headers"),
    ("src/engine/bad.cc", "#if defined(FOO) && \\\n    defined(__AVX512F__)\n#endif\n", "asks again"),
    ("src/engine/bad2.cc", "#ifdef QUENCH_CUDA\n#endif\n", "asks again"),
    ("src/devices/cpu/avx512/bad.cc", "#include <vector>\n", "one instruction set"),
    ("src/devices/cpu/avx512/bad2.cc", '#include "base/file.h"\n', "one instruction set"),
    ("src/devices/cpu/amx/bad.cc", '#include "devices/cpu/avx512/kernel.h"\n', "one instruction set"),
    ("src/devices/cpu/avx512/kernel.h", "#include <algorithm>\n", "one instruction set"),
    ("include/quench/bad.h", "#include <nlohmann/json.hpp>\n", "public headers"),
    ("include/quench/bad2.h", '#include "base/file.h"\n', "public headers"),
    ("src/engine/bad3.cc", "#include <quench/engine.h>\n", "in quotes"),
    ("src/newfolder/bad.cc", '#include "base/file.h"\n', "no layer number"),
    ("src/engine/bad4.cc", '#include "cli/cli_test.cc"\n', "only tests"),
]


def self_test():
    def complaints_of(files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, content in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(content)
            return check_tree(root)[0]

    failures = [f"the good tree was refused: {complaint}" for complaint in complaints_of(GOOD)]
    # The helper files that some bad file needs to exist are themselves bad, so look at that file's complaints only.
    found = complaints_of(GOOD | {path: content for path, content, _ in BAD})
    for path, _, word in BAD:
        own = [complaint for complaint in found if complaint.startswith(path + ":")]
        if not any(word in complaint for complaint in own):
            failures.append(f"{path} was not refused with '{word}' but with {own}")
    others = [complaint for complaint in found if complaint.split(":")[0] not in {path for path, _, _ in BAD}]
    failures += [f"a good file was refused beside bad ones: {complaint}" for complaint in others]
    for failure in failures:
        print(f"check_includes.py: self-test: {failure}", file=sys.stderr)
    return 1 if failures else 0


def main():
    arguments = sys.argv[1:]
    if arguments == ["--self-test"]:
        return self_test()
    root = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).resolve().parent.parent
    complaints, count = check_tree(root)
    for complaint in complaints:
        print(complaint)
    if complaints:
        print(f"check_includes.py: {len(complaints)} includes break the layer rule, see above.", file=sys.stderr)
        return 1
    if count == 0:
        print(f"check_includes.py: no source found below {root}.", file=sys.stderr)
        return 1
    print(f"includes: {count} files keep the layer rule")
    return 0


if __name__ == "__main__":
    sys.exit(main())
