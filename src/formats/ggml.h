// The quantized types of GGUF files (ggml-org/ggml), as formats whose one plane is the file's
// blocks as they stand: a mapped file is used without a copy. ggml/layout.h has the layouts.
//
// Decoded values are those of the Python package gguf, bit for bit. The encoders are quench's own:
// a least-squares search per group, then the small scales of a block are chosen by the error that
// they leave, then the f16 scales are fitted to the codes.
#pragma once

#include "formats/format.h"

namespace quench::ggml_format {

std::vector<Format> formats();

}  // namespace quench::ggml_format
