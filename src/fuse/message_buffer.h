// Page-aligned memory for messages, allocated and touched once per worker: the kernel copies into and out of it, and
// faults or fresh pages on that path cost more than the copy.
#pragma once

#include "base/result.h"
#include "fuse/wire.h"

#include <cstddef>
#include <memory>
#include <span>

namespace outboard::fuse {

struct UnmapPages {
  std::size_t size = 0;
  void operator()(std::byte *memory) const;
};

// Anonymous pages, present from the start.
class Pages {
public:
  static Result<Pages> allocate(std::size_t size);  // ENOMEM; `size` is rounded up to pages
  std::span<std::byte> bytes() const { return {memory_.get(), memory_.get_deleter().size}; }

private:
  std::unique_ptr<std::byte[], UnmapPages> memory_;
};

std::size_t page_size();

// The kernel refuses reads into less.
inline constexpr std::size_t kLeastRequestRoom = 8192;

// Where requests are read to. The payload of a WRITE begins on a page boundary, so that it can go to a device as it is.
class RequestBuffer {
public:
  static Result<RequestBuffer> allocate(std::size_t max_write);
  // All of it: what read(2) gets.
  std::span<std::byte> bytes() const { return pages_.bytes().subspan(page_size() - kHeaders, kHeaders + max_write_); }

private:
  static constexpr std::size_t kHeaders = sizeof(wire::InHeader) + sizeof(wire::WriteIn);
  Pages pages_;
  std::size_t max_write_ = 0;
};

// Where replies are built: the payload (a READ's data) begins on a page boundary, the header stands right before it,
// so a reply is one stretch of memory.
class ReplyBuffer {
public:
  static Result<ReplyBuffer> allocate(std::size_t max_payload);
  std::span<std::byte> payload() const { return pages_.bytes().subspan(page_size()); }
  // The place for the header and, after it, payload().
  std::span<std::byte> message() const { return pages_.bytes().subspan(page_size() - sizeof(wire::OutHeader)); }

private:
  Pages pages_;
};

}  // namespace outboard::fuse
