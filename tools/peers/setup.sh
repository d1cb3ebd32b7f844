#!/usr/bin/env bash
# Makes what 'make bench-peers' measures against: tools/peers/setup.sh [DIR], default ~/.cache/quench-peers. In DIR:
#   node_modules/  the prebuilt llama.cpp of the npm package node-llama-cpp
#   venv/          Python with numpy and gguf, to write models
#   native/bin/    llama-bench, llama-quantize, llama-imatrix and llama-perplexity, compiled for this machine from the
#                  source that the Python package llama-cpp-python carries
# Both llama.cpp are the same release. Needs node 20, npm, python3 with venv, cmake, ninja and a C++ compiler; takes ten
# minutes on two cores. A part that is there in the pinned version is left alone. JOBS=N limits the compile jobs.
set -euo pipefail
# shellcheck source=tools/common.sh
source "$(dirname "$0")/../common.sh"

node_llama_version=3.22.1
llama_cpp_python_version=0.3.36
gguf_version=0.19.0
numpy_version=2.4.6

dir=${1:-$HOME/.cache/quench-peers}
for tool in node npm python3 cmake ninja c++; do
  command -v "$tool" >/dev/null || die "$tool is not installed."
done
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

# have PART VERSION: is it there? Each part leaves a stamp when it is complete.
have() { [ "$(cat "$dir/.$1-version" 2>/dev/null)" = "$2" ]; }
done_with() { printf '%s\n' "$2" >"$dir/.$1-version"; }

if ! have node "$node_llama_version"; then
  echo "$script_name: prebuilt llama.cpp (node-llama-cpp $node_llama_version)" >&2
  # No scripts: the only one would look for, or build, another llama.cpp. No optional packages: those are for GPUs.
  npm install --prefix "$dir" --no-audit --no-fund --ignore-scripts --omit=optional --loglevel=error \
    "node-llama-cpp@$node_llama_version" "@node-llama-cpp/linux-x64@$node_llama_version" >&2
  done_with node "$node_llama_version"
fi

venv_version="gguf $gguf_version, numpy $numpy_version"
if ! have venv "$venv_version"; then
  echo "$script_name: Python with $venv_version" >&2
  python3 -m venv --clear "$dir/venv"
  "$dir/venv/bin/pip" install --quiet --disable-pip-version-check "gguf==$gguf_version" "numpy==$numpy_version" >&2
  done_with venv "$venv_version"
fi

if ! have native "$llama_cpp_python_version" || [ ! -x "$dir/native/bin/llama-imatrix" ]; then
  echo "$script_name: llama.cpp compiled for this machine (source of llama-cpp-python $llama_cpp_python_version)" >&2
  name=llama_cpp_python-$llama_cpp_python_version
  rm -rf "$dir/source" "$dir/native"
  mkdir "$dir/source"
  "$dir/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
    --dest "$dir/source" "llama-cpp-python==$llama_cpp_python_version" >&2
  tar -xzf "$dir/source/$name.tar.gz" -C "$dir/source" "$name/vendor/llama.cpp"
  cmake -S "$dir/source/$name/vendor/llama.cpp" -B "$dir/native" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF \
    -DLLAMA_USE_PREBUILT_UI=OFF >"$dir/native.log" 2>&1 || die "cmake failed: see $dir/native.log."
  ninja -C "$dir/native" ${JOBS:+"-j$JOBS"} llama-bench llama-quantize llama-imatrix llama-perplexity \
    >>"$dir/native.log" 2>&1 ||
    die "the build failed: see $dir/native.log."
  rm -rf "$dir/source"
  done_with native "$llama_cpp_python_version"
fi
echo "$dir"
