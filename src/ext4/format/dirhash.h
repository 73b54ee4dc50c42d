// The hash of a name in an indexed directory: half MD4, TEA or the old "legacy" hash, each over signed or unsigned
// chars. The major hash orders the index; its bit 0 is not part of the hash (the index uses it: "continued from the
// block before").
#pragma once

#include "base/result.h"
#include "ext4/format/superblock.h"

#include <array>
#include <compare>
#include <cstdint>
#include <string_view>

namespace outboard::ext4::format {

// As stored in dx_root; the unsigned ones are made from s_flags and not stored by the kernel.
enum class HashVersion : std::uint8_t {
  legacy = 0,
  half_md4 = 1,
  tea = 2,
  legacy_unsigned = 3,
  half_md4_unsigned = 4,
  tea_unsigned = 5,
  siphash = 6,  // casefolded encrypted directories: not supported
};

struct Hash {
  std::uint32_t major = 0;  // even, below 0xfffffffe
  std::uint32_t minor = 0;
  friend constexpr auto operator<=>(const Hash &, const Hash &) = default;
};

// The largest major hash plus two: where a directory read in hash order ends.
inline constexpr std::uint32_t kHashEnd = 0xfffffffe;

class NameHash {
public:
  // `stored_version`: dx_root's, or the superblock's default for a new index. Unsupported when it is siphash, corrupt
  // when it is no version at all.
  static Result<NameHash> of(const Superblock &superblock, std::uint8_t stored_version);
  NameHash(HashVersion version, const std::array<std::uint32_t, 4> &seed);

  HashVersion version() const { return version_; }
  // What dx_root stores for it: never an unsigned one.
  std::uint8_t stored_version() const;
  Hash operator()(std::string_view name) const;

private:
  HashVersion version_;
  std::array<std::uint32_t, 4> seed_;
};

}  // namespace outboard::ext4::format
