// From folios to the device: one batch of contiguous dirty bytes, in as few and as large writes as the mappings allow.
#pragma once

#include "device/block_device.h"
#include "iomap/mapping.h"
#include "pagecache/file_cache.h"

namespace outboard::iomap {

struct WriteBackCount {
  std::uint64_t bytes = 0;   // recorded
  std::uint64_t writes = 0;  // requests to the device
};

// Writes a batch under `write` mappings, in ascending order: a tail zeroed in memory is on the device before the size that
// exposes it is recorded. No lock is held across the device's work: `source` takes what it needs in begin, ioend and end.
// A mapping that is stale by the time of the write (MappingSource::is_current) is asked for again. The caller keeps other
// changes of these blocks away, and calls cache.finish(batch) whatever the result. On an error everything from
// `done.bytes` on has not been written.
Status write_back(MappingSource &source, const pagecache::FileCache::Batch &batch, device::BlockDevice &device,
                  std::uint32_t block_size, WriteBackCount &done);

}  // namespace outboard::iomap
