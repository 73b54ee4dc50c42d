// Recovery in three steps: scan the log and verify it, decide for every block which version counts, write those home.
//
// Memory and work are bounded by the log: a tag is remembered once, a revoke record only when its block is in the log at
// all, and the scan never takes more blocks than the ring has.
//
// Where the log ends. At the first block that does not carry the magic and the expected sequence number; that is how an
// interrupted commit, or nothing at all, looks. A block that does, but fails its checksum, is told apart like this:
// - its transaction has no valid commit block, and no valid transaction follows: an interrupted commit, the log ends there;
// - its commit block's time is older than the transaction's before: remains of an earlier life of the disk, likewise;
// - the features allow commit blocks to reach the disk before what they commit (async_commit) and nothing valid follows:
//   likewise;
// - else somebody was told that this transaction is durable: corrupt, and nothing is written.
#include "jbd2/replay.h"

#include "base/checksum.h"
#include "jbd2/format.h"
#include "jbd2/home_writer.h"
#include "jbd2/trace.h"
#include "jbd2/replay_changes.h"
#include "jbd2/transaction.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <unordered_map>

namespace outboard::jbd2 {

namespace {

// Reads the log through a window, as recovery goes forward.
class LogWindow {
public:
  explicit LogWindow(const LogArea &log)
      : log_(log), block_size_(log.block_size()),
        capacity_(static_cast<std::uint32_t>(std::max<std::size_t>(1, kBytes / block_size_))),
        area_(std::size_t{capacity_} * block_size_, log.device().properties().alignment) {}

  // Valid until the next call.
  Result<std::span<const std::byte>> read(std::uint32_t block) {
    if (block < first_ || block - first_ >= count_) {
      first_ = block;
      count_ = 0;
      const std::uint32_t count = std::min(capacity_, log_.block_count() - block);
      TRY(log_.read(block, area_.span(0, std::size_t{count} * block_size_)));
      count_ = count;
    }
    return area_.span(std::size_t{block - first_} * block_size_, block_size_);
  }

private:
  static constexpr std::size_t kBytes = std::size_t{512} << 10;
  const LogArea &log_;
  const std::uint32_t block_size_;
  const std::uint32_t capacity_;
  std::uint32_t first_ = 0, count_ = 0;
  cache::AlignedArea area_;
};

// A version of a block in the log.
struct Copy {
  BlockNumber home;
  std::uint32_t log_block = 0;
  std::uint32_t transaction = 0;  // how many transactions after the first of the log
  std::uint32_t order = 0;        // how many copies after the first of the log
  std::uint32_t checksum = 0;
  bool escaped = false;
};

class Recovery {
public:
  Recovery(const LogArea &log, const LogFormat &format, const DiskSuperblock &superblock)
      : log_(log), format_(format), window_(log), first_sequence_(superblock.sequence.get()), start_(superblock.start.get()) {}

  Status scan();
  Status check_homes(const device::BlockDevice &filesystem, std::uint64_t block_count) const;
  Status scan_fast_commits(FastCommitReplay &fast_commits);
  Status refuse_fast_commits();
  Status replay(device::BlockDevice &filesystem);

  std::uint32_t transactions() const { return transactions_; }
  std::uint32_t end_sequence() const { return first_sequence_ + transactions_; }
  std::uint64_t written() const { return written_; }
  std::uint64_t revoked() const { return revoked_; }

private:
  // What was found at one transaction's place.
  enum class Found : std::uint8_t { complete, nothing, bad };
  struct Scanned {
    Found found = Found::nothing;
    bool committed = false;         // with `bad`: a valid commit block stands at the end all the same
    std::uint64_t commit_time = 0;  // seconds
    std::uint32_t next = 0;         // block after the commit block, when one was found
  };
  Result<Scanned> scan_transaction(std::uint32_t position, std::uint32_t sequence);
  Result<bool> scan_descriptor(std::span<const std::byte> descriptor, std::uint32_t sequence, std::uint32_t &position,
                               std::uint32_t &budget);
  bool commit_checks(std::span<const std::byte> block) const;
  void keep(std::uint32_t transaction);
  std::vector<Copy> newest_copies();
  Status read_copy(const Copy &copy, std::span<std::byte> out);

  const LogArea &log_;
  const LogFormat &format_;
  LogWindow window_;
  const std::uint32_t first_sequence_;
  const std::uint32_t start_;

  std::uint32_t transactions_ = 0;
  std::uint32_t left_ = 0;  // blocks of the ring not yet scanned
  std::uint64_t last_commit_time_ = 0;
  std::uint32_t checksum_v1_ = 0;
  // Of the transaction being scanned; taken over when it is complete.
  std::vector<Copy> pending_copies_;
  std::vector<std::uint32_t> pending_revokes_;  // log blocks of revoke records
  std::vector<Copy> copies_;                    // in the order of the log
  struct RevokeBlock {
    std::uint32_t log_block;
    std::uint32_t transaction;
  };
  std::vector<RevokeBlock> revoke_blocks_;
  std::uint64_t written_ = 0, revoked_ = 0;
};

// --- scan -----------------------------------------------------------------------------------------------------------

// Goes over the data blocks behind a descriptor. False when a data block fails its checksum, or the log is too short.
Result<bool> Recovery::scan_descriptor(std::span<const std::byte> descriptor, std::uint32_t sequence, std::uint32_t &position,
                                       std::uint32_t &budget) {
  // The window moves while the data blocks are read: the tags come first.
  std::vector<Tag> tags;
  TagReader reader(format_, descriptor);
  while (std::optional<Tag> tag = reader.next()) tags.push_back(*tag);
  if (format_.checksum_v1) checksum_v1_ = crc32_be(checksum_v1_, descriptor);
  bool good = true;
  for (const Tag &tag : tags) {
    if (budget == 0) return false;
    --budget;
    if (format_.checksum_v1 || format_.block_checksums()) {
      const std::span<const std::byte> data = TRY(window_.read(position));
      if (format_.checksum_v1) checksum_v1_ = crc32_be(checksum_v1_, data);
      good = good && tag_matches(format_, tag, sequence, data);
    }
    pending_copies_.push_back({tag.block, position, 0, 0, tag.checksum, tag.escaped});
    position = format_.advance(position, 1);
  }
  return good;
}

bool Recovery::commit_checks(std::span<const std::byte> block) const {
  if (!commit_is_valid(format_, block)) return false;
  if (!format_.checksum_v1) return true;
  const auto &commit = view_as<CommitBlock>(block);
  const std::uint32_t stored = commit.checksum[0].get();
  const bool unused = commit.checksum_type == 0 && commit.checksum_size == 0 && stored == 0;
  return unused || (commit.checksum_type == 1 && commit.checksum_size == 4 && stored == checksum_v1_);
}

Result<Recovery::Scanned> Recovery::scan_transaction(std::uint32_t position, std::uint32_t sequence) {
  pending_copies_.clear();
  pending_revokes_.clear();
  checksum_v1_ = ~0U;
  bool good = true;
  std::uint32_t budget = left_;
  while (budget > 0) {
    --budget;
    const std::span<const std::byte> block = TRY(window_.read(position));
    const auto &header = view_as<Header>(block);
    if (header.magic.get() != kMagic || header.sequence.get() != sequence) break;
    const std::uint32_t here = position;
    position = format_.advance(position, 1);
    switch (static_cast<LogBlockType>(header.type.get())) {
    case LogBlockType::descriptor: {
      good = tail_is_valid(format_, block) && good;
      const bool data_good = TRY(scan_descriptor(block, sequence, position, budget));
      good = good && data_good;
      continue;
    }
    case LogBlockType::revoke:
      good = tail_is_valid(format_, block) && good;
      pending_revokes_.push_back(here);
      continue;
    case LogBlockType::commit: {
      Scanned scanned;
      scanned.committed = commit_checks(block);
      scanned.found = good && scanned.committed ? Found::complete : Found::bad;
      scanned.commit_time = view_as<CommitBlock>(block).seconds.get();
      scanned.next = position;
      left_ = budget;
      return scanned;
    }
    default: break;  // no block of a transaction: the log ends
    }
    break;
  }
  return Scanned{};
}

void Recovery::keep(std::uint32_t transaction) {
  for (Copy &copy : pending_copies_) {
    copy.transaction = transaction;
    copy.order = static_cast<std::uint32_t>(copies_.size());
    copies_.push_back(copy);
  }
  for (std::uint32_t block : pending_revokes_) revoke_blocks_.push_back({block, transaction});
}

Status Recovery::scan() {
  left_ = format_.length();
  std::uint32_t position = start_;
  for (;;) {
    const Scanned scanned = TRY(scan_transaction(position, end_sequence()));
    if (scanned.found == Found::nothing) return {};
    if (scanned.found == Found::complete) {
      keep(transactions_++);
      last_commit_time_ = std::max(last_commit_time_, scanned.commit_time);
      position = scanned.next;
      continue;
    }
    if (scanned.commit_time < last_commit_time_) return {};  // stale
    // With checksum v1 the commit block's own checksum is all there is, so `committed` says nothing more than `bad`.
    if (scanned.committed && format_.block_checksums() && !format_.async_commit) {
      return fail(Error::bad_checksum("journal: blocks of a committed transaction"));
    }
    const Scanned after = TRY(scan_transaction(scanned.next, end_sequence() + 1));
    if (after.found == Found::complete && after.commit_time >= last_commit_time_) {
      return fail(Error::bad_checksum("journal: a transaction before the last"));
    }
    return {};
  }
}

// --- what counts ----------------------------------------------------------------------------------------------------

Status Recovery::check_homes(const device::BlockDevice &filesystem, std::uint64_t block_count) const {
  std::vector<BlockRun> own;
  if (&log_.device() == &filesystem) own = log_.runs();
  std::ranges::sort(own, {}, &BlockRun::start);
  for (const Copy &copy : copies_) {
    if (copy.home.value() >= block_count) {
      return fail(Error::corrupt("journal: block beyond the file system").in_block(copy.home.value()));
    }
    const auto after = std::ranges::upper_bound(own, copy.home, {}, &BlockRun::start);
    if (after != own.begin() && copy.home < std::prev(after)->end()) {
      return fail(Error::corrupt("journal: block inside the journal").in_block(copy.home.value()));
    }
  }
  return {};
}

// Fast commits continue the last complete transaction. Their area starts one block behind the log proper, where the
// kernel begins it.
Status Recovery::scan_fast_commits(FastCommitReplay &fast_commits) {
  if (!format_.fast_commit) return {};
  for (std::uint32_t position = format_.end + 1; position < format_.max_length; ++position) {
    const std::span<const std::byte> block = TRY(window_.read(position));
    if (!TRY(fast_commits.scan(end_sequence(), block))) return {};
  }
  return {};
}

// Losing them would lose what fsync promised. Tag and length are le16; a head carries features and transaction, a tail transaction and CRC.
Status Recovery::refuse_fast_commits() {
  if (!format_.fast_commit) return {};
  constexpr std::uint16_t kTail = 8, kHead = 9;
  std::uint32_t crc = 0;
  for (std::uint32_t position = format_.end + 1; position < format_.max_length; ++position) {
    const std::span<const std::byte> block = TRY(window_.read(position));
    for (std::size_t at = 0; at + 4 <= block.size();) {
      const std::uint16_t tag = view_as<le16>(block, at).get();
      const std::size_t length = view_as<le16>(block, at + 2).get();
      const std::size_t value = at + 4;
      const bool first = position == format_.end + 1 && at == 0;
      if (tag == 0 || tag > kHead || length > block.size() - value || (first && tag != kHead)) return {};
      if ((tag == kHead || tag == kTail) && length < 8) return {};
      if (tag == kHead && view_as<le32>(block, value + 4).get() != end_sequence()) return {};
      if (tag == kTail) {
        crc = crc32c(crc, block.subspan(at, 8));
        const bool valid = view_as<le32>(block, value).get() == end_sequence() && view_as<le32>(block, value + 4).get() == crc;
        if (valid) return fail(Error::unsupported("journal: fast commits to replay"));
        return {};
      }
      crc = crc32c(crc, block.subspan(at, 4 + length));
      at = value + length;
    }
  }
  return {};
}

// The last copy of each block, unless a revoke in the same or a later transaction covers it. Sorted by home.
std::vector<Copy> Recovery::newest_copies() {
  std::ranges::sort(copies_, {}, [](const Copy &copy) { return std::pair(copy.home, copy.order); });
  std::vector<Copy> newest;
  for (const Copy &copy : copies_) {
    if (!newest.empty() && newest.back().home == copy.home) newest.back() = copy;
    else newest.push_back(copy);
  }
  return newest;
}

// --- replay ---------------------------------------------------------------------------------------------------------

Status Recovery::read_copy(const Copy &copy, std::span<std::byte> out) {
  const std::span<const std::byte> data = TRY(window_.read(copy.log_block));
  // Once more: the device may answer differently now.
  const Tag tag{copy.home, copy.checksum, copy.escaped};
  if (!tag_matches(format_, tag, first_sequence_ + copy.transaction, data)) {
    return fail(Error::bad_checksum("journal: data block").in_block(copy.home.value()));
  }
  std::memcpy(out.data(), data.data(), out.size());
  if (copy.escaped) edit_as<be32>(out).set(kMagic);
  return {};
}

Status Recovery::replay(device::BlockDevice &filesystem) {
  std::vector<Copy> newest = newest_copies();
  // Revokes of blocks that are not in the log mean nothing here and are not remembered.
  std::unordered_map<std::uint64_t, std::uint32_t> revoked_by;  // block to the newest transaction that revokes it
  const auto is_logged = [&](BlockNumber block) { return std::ranges::binary_search(newest, block, {}, &Copy::home); };
  for (const RevokeBlock &revoke : revoke_blocks_) {
    const std::span<const std::byte> block = TRY(window_.read(revoke.log_block));
    if (!tail_is_valid(format_, block)) return fail(Error::bad_checksum("journal: revoke block"));
    TRY(for_each_revoke(format_, block, [&](BlockNumber number) {
      if (!is_logged(number)) return;
      std::uint32_t &last = revoked_by[number.value()];
      last = std::max(last, revoke.transaction);
    }));
  }
  const auto is_revoked = [&](const Copy &copy) {
    const auto found = revoked_by.find(copy.home.value());
    return found != revoked_by.end() && found->second >= copy.transaction;
  };
  revoked_ = static_cast<std::uint64_t>(std::ranges::count_if(copies_, is_revoked));
  std::erase_if(newest, is_revoked);

  HomeWriter writer(filesystem, format_.block_size);
  for (std::size_t first = 0; first < newest.size(); first += writer.capacity()) {
    const std::size_t count = std::min(writer.capacity(), newest.size() - first);
    // Read in the order of the log, write in the order of the homes.
    std::vector<std::pair<const Copy *, std::span<std::byte>>> batch;
    for (const Copy &copy : std::span(newest).subspan(first, count)) batch.emplace_back(&copy, writer.add(copy.home));
    std::ranges::sort(batch, {}, [](const auto &item) { return item.first->log_block; });
    for (const auto &[copy, out] : batch) TRY(read_copy(*copy, out));
    TRY(writer.write_out());
    written_ += count;
  }
  return filesystem.flush();
}

}  // namespace

// --- the public face ------------------------------------------------------------------------------------------------

namespace {
struct LoadedLog {
  cache::AlignedArea area;
  LogFormat format;
  DiskSuperblock &disk() { return edit_as<DiskSuperblock>(area.span()); }
};

Result<LoadedLog> load(const LogArea &log) {
  if (log.block_count() == 0) return fail(Error::corrupt("journal: no blocks"));
  LoadedLog loaded{cache::AlignedArea(log.block_size(), log.device().properties().alignment), {}};
  TRY(log.read(0, loaded.area.span()));
  loaded.format = TRY(parse_superblock(loaded.area.span(), log.block_size(), log.block_count()));
  return loaded;
}
}  // namespace

Result<bool> needs_recovery(const LogArea &log) {
  LoadedLog loaded = TRY(load(log));
  return loaded.disk().start.get() != 0;
}

namespace {
Result<RecoveryReport> recover_log(const LogArea &log, device::BlockDevice &filesystem, std::uint64_t block_count, bool mark_empty,
                                   FastCommitReplay *fast_commits) {
  LoadedLog loaded = TRY(load(log));
  DiskSuperblock &disk = loaded.disk();
  RecoveryReport report;
  report.errno_recorded = 0U - disk.error.get();
  report.was_needed = disk.start.get() != 0;
  report.next_sequence = disk.sequence.get();
  if (!report.was_needed) return report;

  Recovery recovery(log, loaded.format, disk);
  TRY(recovery.scan());
  if (fast_commits != nullptr) TRY(recovery.scan_fast_commits(*fast_commits));
  else TRY(recovery.refuse_fast_commits());
  TRY(recovery.check_homes(filesystem, block_count));
  TRY(recovery.replay(filesystem));
  report.transactions = recovery.transactions();
  report.blocks_written = recovery.written();
  report.blocks_revoked = recovery.revoked();

  std::vector<ChangedBlock> changes;
  if (fast_commits != nullptr) changes = TRY(fast_commits->replay());
  if (!changes.empty()) {
    report.fast_commit_blocks = changes.size();
    if (mark_empty && fits_log(loaded.format, changes.size())) {
      TRY(write_as_transaction(log, loaded.format, loaded.area.span(), recovery.end_sequence(), changes));
      // The log now ends with that transaction, and the fast commits count no more.
      const RecoveryReport again = TRY(recover(log, filesystem, block_count));
      report.next_sequence = again.next_sequence;
      return report;
    }
    TRY(write_home(filesystem, loaded.format.block_size, changes));
  }
  // One number is left out: the log may hold the beginning of a transaction that carries it.
  report.next_sequence = recovery.end_sequence() + 1;
  if (!mark_empty) return report;
  disk.start.set(0);
  disk.sequence.set(report.next_sequence);
  seal_superblock(loaded.area.span());
  TRY(log.write(0, loaded.area.span()));
  TRY(log.device().flush());
  return report;
}
}  // namespace

Result<RecoveryReport> recover(const LogArea &log, device::BlockDevice &filesystem, std::uint64_t block_count, bool mark_empty,
                               FastCommitReplay *fast_commits) {
  const outboard::trace::Stopwatch watch;
  Result<RecoveryReport> report = recover_log(log, filesystem, block_count, mark_empty, fast_commits);
  const RecoveryReport done = report.value_or(RecoveryReport{});
  trace::replay(done.transactions, done.blocks_written, done.blocks_revoked, report, watch);
  return report;
}

}  // namespace outboard::jbd2
