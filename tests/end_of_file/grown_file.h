// A file of a known size that is then made larger in one of four ways, and what it must hold afterwards.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <string>
#include <vector>

namespace outboard::tests {

enum class Growth { write_behind_the_end, truncate, allocate, map_and_write };

struct GrownFile {
  Growth growth{};
  bool stale = false;          // bytes of somebody else stand behind the end, in the last block
  std::uint64_t old_size = 0;  // never a multiple of a block: there is a tail in which bytes could stand
  std::uint64_t gap = 0;       // bytes between the old end and what is new

  static constexpr std::uint64_t kNew = 700;  // bytes written, or space allocated, behind the gap

  std::string name() const;
  std::string old_contents() const { return std::string(old_size, 'o'); }
  // The old bytes, zeros in the gap, and the new bytes, if the growth brings any.
  std::string new_contents() const;
  // Carries the growth out. The descriptor is open for reading and writing.
  Status grow(int fd) const;
};

// All that differ in a way that could matter, for blocks of this size.
std::vector<GrownFile> grown_files(std::uint32_t block_size);

// "" or where the two differ first.
std::string first_difference(const std::string &expected, const std::string &found);

}  // namespace outboard::tests
