// The extents of files in an image that is not mounted.
#pragma once

#include "tools/image_access.h"

namespace outboard::tools {

// Prints them for one file, or for every regular file below a directory (each once, whatever names it has), and the
// total. Lengths and places are in blocks. Returns the exit status.
int show_extents(const std::string &source, const std::string &path, const MountWords &words);

}  // namespace outboard::tools
