// One random operation on one of a few files, and the source such operations come from.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string>

namespace outboard::exerciser {

struct Operation {
  enum class Kind : std::uint8_t {
    read,
    write,
    append,
    truncate,
    allocate,
    allocate_keep,
    punch,
    zero,
    zero_keep,
    collapse,
    insert,
    copy,
    seek,
    sync,
    sync_data,
    sync_all,
    reopen,
    drop_cache,
    remount,
    crash,
    count_,
  };
  // How a read or write reaches the file. A subject that knows fewer ways takes the nearest it has.
  enum class Way : std::uint8_t { buffered, second, direct, mapped };
  Kind kind{};
  Way way{};
  unsigned file = 0, other = 0;          // other: the target of copy
  std::uint64_t offset = 0, length = 0;  // bytes; truncate: `offset` is the new size
  std::uint64_t target = 0;              // of copy: the offset in `other`
};
inline constexpr std::size_t kKinds = static_cast<std::size_t>(Operation::Kind::count_);

const char *name_of(Operation::Kind kind);
std::string describe(const Operation &operation);

// What the operations are to fit.
struct Traits {
  std::uint32_t block_size = 4096;  // of the file system
  std::uint64_t max_size = 0;       // bytes; no file grows larger, so that the model fits into memory
  unsigned files = 2;
  bool extents = true;     // false: block maps, on which preallocation and zero range are EOPNOTSUPP
  bool shifts = false;     // collapse and insert range are there to be used
  bool may_fill = false;   // the disk is too small for all: operations that need space may fail or stop short
  unsigned restarts = 10;  // remounts (and as many crashes) in 10,000 operations
};

// EOPNOTSUPP, when that is what this operation must come to; 0 when it must succeed.
int due_refusal(const Traits &traits, Operation::Kind kind);

// The same seed and the same sizes give the same operations.
class OperationSource {
public:
  OperationSource(const Traits &traits, std::uint64_t seed) : traits_(traits), random_(seed) {}
  // `sizes`: of the files now.
  Operation next(std::span<const std::uint64_t> sizes);

private:
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
  bool one_in(std::uint64_t count) { return below(count) == 0; }
  Operation::Kind kind();
  std::uint64_t position(std::uint64_t size);
  std::uint64_t length(std::uint64_t limit);
  void place(Operation &o, std::uint64_t size);
  void place_moved(Operation &o, std::uint64_t size);
  void place_shifted(Operation &o, std::uint64_t size);
  void place_copied(Operation &o, std::uint64_t size);

  const Traits traits_;
  std::mt19937_64 random_;
  std::uint64_t last_end_ = 0;  // where the operation before ended: the next one likes to meet it
};

}  // namespace outboard::exerciser
