// INIT: what both sides can do. Pure functions, so that every kernel's offer can be tried without having that kernel.
#pragma once

#include "base/result.h"
#include "fuse/wire.h"

#include <cstdint>
#include <span>

namespace outboard::fuse {

struct Wishes {
  bool writeback_cache = true;
  std::uint32_t max_write = 1u << 20;       // bytes
  std::uint32_t max_readahead = 32u << 20;  // bytes; a ceiling only, the mount's read_ahead_kb decides
  // Requests that the kernel lets be under way in the background: its write-back, and readahead, which waits for a place behind it.
  // As many as can be said, so that there is one however many WRITEs wait for a disk that takes none (docs/fuse.md).
  std::uint16_t max_background = 65535;
  std::uint16_t congestion_threshold = 192;  // from so many on the kernel does without readahead that nobody waits for
};

struct Agreement {
  std::uint32_t minor = 0;  // of protocol 7
  std::uint64_t flags = 0;  // wire::init_flag bits that hold
  std::uint32_t max_write = 0;
  wire::InitOut answer{};  // the INIT reply that says so

  bool has(std::uint64_t flag) const { return (flags & flag) == flag; }
};

// The kernel's offer, from the body of an INIT request. EINVAL when too short.
Result<wire::InitIn> decode_init(std::span<const std::byte> body);

// True: the kernel speaks a later major version; answering refuse_major() makes it send INIT again in ours.
bool needs_other_major(const wire::InitIn &offer);
wire::InitOut refuse_major();

// EPROTONOSUPPORT for kernels older than protocol 7.31 (Linux 5.5).
Result<Agreement> agree(const wire::InitIn &offer, const Wishes &wishes, std::size_t page_size);

}  // namespace outboard::fuse
