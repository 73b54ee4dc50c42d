// For the tests of this folder: a log made by hand in memory, a block type whose seal can be checked, and a journal.
#pragma once

#include "base/checksum.h"
#include "device/memory_device.h"
#include "jbd2/format.h"
#include "jbd2/journal.h"
#include "jbd2/probe_device.h"
#include "testing/expect.h"

#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <vector>

namespace outboard::jbd2::testing_support {

// A block holds a value in its first eight bytes and, once sealed, a CRC of the rest and its number in the last four.
// All zeros are a block that was never written.
class ValueType final : public cache::BlockType {
public:
  const char *name() const override { return "value"; }
  static std::uint32_t sum(BlockNumber block, std::span<const std::byte> bytes) {
    const std::uint32_t crc = crc32c(~0U, bytes.first(bytes.size() - 4));
    return crc32c_le32(crc, static_cast<std::uint32_t>(block.value()));
  }
  static bool is_sealed(BlockNumber block, std::span<const std::byte> bytes) {
    bool zero = true;
    for (std::byte byte : bytes) zero = zero && byte == std::byte{0};
    return zero || view_as<le32>(bytes, bytes.size() - 4).get() == sum(block, bytes);
  }
  Status verify(BlockNumber block, std::uint32_t, std::span<const std::byte> bytes) const override {
    if (is_sealed(block, bytes)) return {};
    return fail(Error::bad_checksum("value block").in_block(block.value()));
  }
  void seal(BlockNumber block, std::uint32_t, std::span<std::byte> bytes) const override {
    edit_as<le32>(bytes, bytes.size() - 4).set(sum(block, bytes));
  }
};

inline std::uint64_t value_in(std::span<const std::byte> bytes) { return view_as<le64>(bytes).get(); }

struct BenchOptions {
  bool logged = true;
  std::uint32_t block_size = 1024;
  std::uint32_t log_blocks = 256;
  std::uint64_t blocks = 4096;
  bool separate_log = false;  // an external journal
  JournalOptions journal{.commit_interval = std::chrono::hours(1)};
  std::uint32_t compat = 0, incompat = 0;  // features already set in the journal superblock
};

inline void format_log(const LogArea &log, const BenchOptions &options) {
  std::vector<std::byte> block(log.block_size());
  auto &disk = edit_as<DiskSuperblock>(block);
  put_header(block, LogBlockType::superblock_v2, 0);
  disk.block_size.set(log.block_size());
  disk.max_length.set(log.block_count());
  disk.first.set(1);
  disk.sequence.set(1);
  disk.users_count.set(1);
  disk.compat.set(options.compat);
  disk.incompat.set(options.incompat);
  for (std::size_t i = 0; i < 16; ++i) disk.uuid[i] = static_cast<std::byte>(i * 7 + 1);
  seal_superblock(block);
  ASSERT_OK(log.write(0, block));
}

// The log lies in two runs, so that pieces end inside it.
inline std::vector<BlockRun> log_runs(std::uint32_t blocks) {
  const std::uint32_t half = blocks / 2;
  return {{BlockNumber(64), half}, {BlockNumber(64 + half + 16), blocks - half}};
}

struct Bench {
  explicit Bench(BenchOptions wanted = {}) : options(std::move(wanted)) {
    device = std::make_unique<device::MemoryDevice>(options.blocks * options.block_size);
    if (options.separate_log) log_device = std::make_unique<device::MemoryDevice>(options.blocks * options.block_size);
  }
  ~Bench() { journal.reset(); }

  // A probe around the memory device, for open(). It lives as long as the journal, whose threads may still write to it
  // (an abort is recorded in the log) after the test's own scope has ended.
  ProbeDevice &interpose() { return *(probe = std::make_unique<ProbeDevice>(*device)); }

  device::BlockDevice &on_log() { return log_device ? *log_device : *device; }

  // Formats, then opens. `over`: what the cache and the log use instead of the memory device (a wrapper of it).
  void open(device::BlockDevice *over = nullptr) {
    device::BlockDevice &used = over != nullptr ? *over : *device;
    device::BlockDevice &used_log = log_device ? *log_device : used;
    log.emplace(used_log, options.block_size, log_runs(options.log_blocks));
    if (options.logged) {
      ASSERT_NO_FATAL_FAILURE(format_log(LogArea(on_log(), options.block_size, log_runs(options.log_blocks)), options));
    }
    open_journal(used);
  }
  void open_journal(device::BlockDevice &used) {
    journal.reset();
    cache = std::make_unique<cache::BufferCache>(used, options.block_size, options.blocks);
    ASSIGN_OK(journal, Journal::open(*cache, options.logged ? log : std::nullopt, options.journal));
  }

  void put(Handle &handle, std::uint64_t block, std::uint64_t value) {
    ASSIGN_OK(cache::BufferRef buffer, cache->read(BlockNumber(block), type));
    ASSIGN_OK(std::span<std::byte> bytes, buffer->writable(handle));
    edit_as<le64>(bytes).set(value);
  }
  void put_one(std::uint64_t block, std::uint64_t value) {
    ASSIGN_OK(Handle handle, journal->start(1));
    put(handle, block, value);
    handle.finish();
  }
  // What the disk itself holds; the seal must be right.
  std::uint64_t home(std::uint64_t block) { return home_on(*device, block); }
  std::uint64_t home_on(device::BlockDevice &from, std::uint64_t block) const {
    std::vector<std::byte> bytes(options.block_size);
    EXPECT_OK(from.read(block * options.block_size, bytes));
    EXPECT_TRUE(ValueType::is_sealed(BlockNumber(block), bytes)) << "block " << block;
    return value_in(bytes);
  }

  BenchOptions options;
  ValueType type;
  std::unique_ptr<device::MemoryDevice> device, log_device;
  std::unique_ptr<ProbeDevice> probe;
  std::optional<LogArea> log;
  std::unique_ptr<cache::BufferCache> cache;
  std::unique_ptr<Journal> journal;
};

}  // namespace outboard::jbd2::testing_support
