#include "ext4/fast_commit_apply.h"

#include "ext4/credits.h"
#include "ext4/file_map.h"
#include "ext4/block_alloc.h"
#include "ext4/inode_alloc.h"
#include "ext4/orphans.h"
#include "ext4/truncate_pieces.h"

#include <algorithm>

namespace outboard::ext4 {
namespace {

using format::FastCommitTag;

std::uint64_t blocks_of(std::uint64_t from, std::uint64_t end) { return std::min<std::uint64_t>(end - from, ~std::uint32_t{0}); }

}  // namespace

Status FastCommitApply::run(const std::vector<std::vector<Record>> &commits) {
  {
    jbd2::Handle handle = TRY(volume_.journal().start(credits::kSuperblock));
    Status begun = volume_.orphans().begin_use(handle);
    handle.finish();
    TRY(std::move(begun));
  }
  for (InodeNumber number : TRY(volume_.orphans().on_record())) orphans_.insert(number);
  for (const std::vector<Record> &commit : commits)
    for (const Record &record : commit)
      if (record.tag == FastCommitTag::add_range) TRY(set_aside(record));
  for (const std::vector<Record> &commit : commits)
    for (const Record &record : commit) TRY(apply(record, commit));
  return settle();
}

Status FastCommitApply::apply(const Record &record, const std::vector<Record> &commit) {
  switch (record.tag) {
  case FastCommitTag::add_range: return add_range(record);
  case FastCommitTag::del_range: return delete_range(record);
  case FastCommitTag::create: return create(record);
  case FastCommitTag::link: return link(record, commit);
  case FastCommitTag::unlink: return unlink(record);
  case FastCommitTag::inode: return inode(record);
  case FastCommitTag::pad:
  case FastCommitTag::tail:
  case FastCommitTag::head: break;
  }
  return {};
}

Result<FastCommitApply::Subject *> FastCommitApply::subject(InodeNumber number) {
  const format::Superblock &superblock = volume_.superblock();
  const bool ordinary = number >= superblock.first_ino || number == format::kRootInode;
  if (!ordinary || !volume_.geometry().contains(number) || number == superblock.journal_inode ||
      (superblock.has(format::Compat::orphan_file) && number == superblock.orphan_file_inode))
    return fail(Error::corrupt("fast commit: inode number").of_inode(number.value()));
  std::unique_ptr<Subject> &slot = subjects_[number];
  if (slot) return slot.get();
  slot = std::make_unique<Subject>();
  slot->inode = TRY(volume_.inodes().load(number));
  slot->inode.on_orphan_list = orphans_.contains(number);
  if (slot->inode.fields.links != 0) slot->life = Life::alive;
  else if (slot->inode.fields.mode != 0) slot->life = Life::unlinked;
  return slot.get();
}

// --- ranges ---------------------------------------------------------------------------------------------------------

Status FastCommitApply::set_aside(const Record &record) {
  const BlockRun run{record.range.start, record.range.len};
  if (!volume_.blocks().may_hold_file_data(run))
    return fail(Error::corrupt("fast commit: range of blocks").in_block(run.start.value()).of_inode(record.inode.value()));
  return volume_.blocks().set_aside(run);
}

namespace {
// Room for [first, end): what was there of older pieces is cut away.
template <class Pieces> void cut(Pieces &pieces, std::uint64_t first, std::uint64_t end) {
  auto at = pieces.upper_bound(first);
  if (at != pieces.begin()) --at;
  while (at != pieces.end() && at->first < end) {
    const std::uint64_t old_first = at->first;
    const auto old = at->second;
    if (old.end <= first) {
      ++at;
      continue;
    }
    at = pieces.erase(at);
    if (old_first < first) {
      auto head = old;
      head.end = first;
      pieces.emplace(old_first, head);
    }
    if (old.end > end) {
      auto tail = old;
      if (tail.start) tail.start += end - old_first;
      at = pieces.emplace(end, tail).first;
    }
  }
}
}  // namespace

Status FastCommitApply::add_range(const Record &record) {
  Subject &target = *TRY(subject(record.inode));
  if (!target.exists()) return {};
  const bool has_map = target.inode.is_regular() || (target.inode.is_symlink() && target.inode.fields.uses_extents());
  const std::uint64_t first = record.range.logical.value();
  const std::uint64_t end = first + record.range.len;
  if (!has_map || end > file_map::max_file_blocks(volume_, target.inode) ||
      (record.range.unwritten && !target.inode.fields.uses_extents()))
    return fail(Error::corrupt("fast commit: range of a file").of_inode(record.inode.value()));
  cut(target.pieces, first, end);
  target.pieces.emplace(first, Piece{end, record.range.start, record.range.unwritten});
  return {};
}

Status FastCommitApply::delete_range(const Record &record) {
  Subject &target = *TRY(subject(record.inode));
  if (!target.exists() || (!target.inode.is_regular() && !target.inode.is_symlink())) return {};
  const std::uint64_t first = record.range.logical.value();
  const std::uint64_t end = std::min(first + record.range.len, file_map::max_file_blocks(volume_, target.inode));
  if (first >= end) return {};
  cut(target.pieces, first, end);
  target.pieces.emplace(first, Piece{end, BlockNumber(), false});
  return {};
}

// --- the end --------------------------------------------------------------------------------------------------------

Status FastCommitApply::settle() {
  for (const auto &[number, target] : subjects_) {
    if (target->life == Life::nameless) target->life = Life::unlinked;  // no name came
    if (target->life == Life::unlinked) TRY(drop_blocks(*target));
    if (target->life == Life::alive) TRY(give_back(*target));
  }
  for (const auto &[number, target] : subjects_) {
    if (target->life == Life::alive) {
      TRY(take(*target));
      TRY(store(*target));
    } else if (target->life == Life::unlinked) {
      jbd2::Handle handle = TRY(volume_.journal().start(Orphans::kCredits + credits::kStoreInode));
      Status recorded = target->inode.on_orphan_list ? volume_.inodes().store(handle, target->inode)
                                                     : volume_.orphans().add(handle, target->inode);
      handle.finish();
      TRY(std::move(recorded));
    }
  }
  return {};
}

Status FastCommitApply::store(Subject &target) {
  jbd2::Handle handle = TRY(volume_.journal().start(credits::kStoreInode));
  Status stored = volume_.inodes().store(handle, target.inode);
  handle.finish();
  return stored;
}

// What is mapped otherwise than it is to be goes.
Status FastCommitApply::give_back(Subject &target) {
  for (const auto &[first, piece] : target.pieces) {
    for (std::uint64_t at = first; at < piece.end;) {
      const FileMapping found = TRY(file_map::find(volume_, target.inode, FileBlock(static_cast<std::uint32_t>(at)),
                                                   static_cast<std::uint32_t>(blocks_of(at, piece.end))));
      const bool stays = piece.start && found.start == piece.start + (at - first);
      const std::uint64_t end = at + found.count;
      if (found.state != FileMapping::State::hole && !stays) {
        jbd2::Handle handle = TRY(volume_.journal().start(file_map::remove_credits(volume_, target.inode) + credits::kStoreInode));
        Status freed = truncate::free_pieces(handle, volume_, target.inode, FileBlock(static_cast<std::uint32_t>(at)),
                                             FileBlock(static_cast<std::uint32_t>(end)));
        handle.finish();
        TRY(std::move(freed));
      }
      at = end;
    }
  }
  return {};
}

// Holes that are to be mapped get their blocks, mapped blocks their state.
Status FastCommitApply::take(Subject &target) {
  Inode &inode = target.inode;
  for (const auto &[first, piece] : target.pieces) {
    if (!piece.start) continue;
    for (std::uint64_t at = first; at < piece.end;) {
      const FileBlock block(static_cast<std::uint32_t>(at));
      const std::uint32_t most = std::max(1U, file_map::max_insert(volume_, inode, block));
      const FileMapping found = TRY(
          file_map::find(volume_, inode, block, static_cast<std::uint32_t>(std::min<std::uint64_t>(most, piece.end - at))));
      const BlockRun run{piece.start + (at - first), found.count};
      const format::Geometry &geometry = volume_.geometry();
      const std::uint32_t groups = geometry.group_of(run.end() - 1) - geometry.group_of(run.start) + 1;
      jbd2::Handle handle = TRY(volume_.journal().start(2 * file_map::insert_credits(volume_, inode) +
                                                        credits::free_blocks(groups) + credits::kStoreInode));
      Status done;
      if (found.state == FileMapping::State::hole) {
        done = file_map::insert(handle, volume_, inode, block, run, piece.unwritten);
        if (done) done = volume_.blocks().claim_exact(handle, run);
      } else if ((found.state == FileMapping::State::unwritten) != piece.unwritten) {
        done = piece.unwritten ? file_map::mark_unwritten(handle, volume_, inode, block, found.count)
                               : file_map::mark_written(handle, volume_, inode, block, found.count);
      }
      if (done) done = volume_.inodes().store(handle, inode);
      handle.finish();
      TRY(std::move(done));
      at += found.count;
    }
  }
  return {};
}

}  // namespace outboard::ext4
