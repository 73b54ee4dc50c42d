#include "ext4/xattr_sets.h"

#include "ext4/inode_alloc.h"
#include "ext4/xattr_block.h"

#include <algorithm>

namespace outboard::ext4 {
namespace {

using Items = std::vector<format::XattrItem>;

static_assert(XattrSets::kCredits == XattrBlocks::kCredits + 2);

auto find_in(const Items &items, format::XattrName name) {
  return std::ranges::find_if(items,
                              [name](const auto &item) { return item.index == name.index && item.name == name.name; });
}

bool erase_from(Items &items, format::XattrName name) {
  return std::erase_if(items,
                       [name](const auto &item) { return item.index == name.index && item.name == name.name; }) != 0;
}

// The set with this value for this name: in the name's place when it has one, else at the end.
Items with(const Items &items, format::XattrName name, std::span<const std::byte> value) {
  Items changed = items;
  const auto at = find_in(items, name);
  format::XattrItem item{name.index, std::string(name.name), {value.begin(), value.end()}};
  if (at == items.end()) changed.push_back(std::move(item));
  else changed[static_cast<std::size_t>(at - items.begin())] = std::move(item);
  return changed;
}

}  // namespace

Result<XattrSets> XattrSets::load(Volume &volume, const Inode &inode) {
  XattrSets sets(TRY(InlineXattrs::read(volume, inode)), volume.block_size());
  sets.in_inode_ = TRY(sets.area_.items());
  const std::vector<std::byte> block = TRY(volume.xattr_blocks().read(inode));
  if (!block.empty()) {
    const format::XattrCursor cursor = TRY(format::XattrCursor::in_block(block));
    sets.in_block_ = TRY(format::read_xattrs(cursor));
  }
  return sets;
}

bool XattrSets::contains(format::XattrName name) const {
  return find_in(in_inode_, name) != in_inode_.end() || find_in(in_block_, name) != in_block_.end();
}

Status XattrSets::set(format::XattrName name, std::span<const std::byte> value) {
  if (Items changed = with(in_inode_, name, value); area_.fits(changed)) {
    inode_changed_ = inode_changed_ || changed != in_inode_;
    in_inode_ = std::move(changed);
    if (erase_from(in_block_, name)) block_changed_ = true;
    return {};
  }
  Items changed = with(in_block_, name, value);
  if (format::block_xattr_size(changed) > block_size_)
    return fail(Error::user(ENOSPC, "xattr: no room in inode and block"));
  block_changed_ = block_changed_ || changed != in_block_;
  in_block_ = std::move(changed);
  if (erase_from(in_inode_, name)) inode_changed_ = true;
  return {};
}

void XattrSets::remove(format::XattrName name) {
  if (erase_from(in_inode_, name)) inode_changed_ = true;
  if (erase_from(in_block_, name)) block_changed_ = true;
}

Status XattrSets::store(jbd2::Handle &handle, Volume &volume, Inode &inode) {
  const format::InodeFields before = inode.fields;
  if (block_changed_ || inode_changed_) handle.needs_full_commit();
  Status stored = [&]() -> Status {
    // The only step that can fail for want of space comes first.
    if (block_changed_) TRY(volume.xattr_blocks().replace(handle, inode, in_block_));
    if (inode_changed_) TRY(area_.write(handle, volume, inode, in_inode_));
    const bool has_any = !in_inode_.empty() || !in_block_.empty();
    if (has_any && !volume.superblock().has(format::Compat::ext_attr)) {
      TRY(volume.edit_superblock(
          handle, [](std::span<std::byte> bytes) { format::set_feature(bytes, format::Compat::ext_attr, true); }));
    }
    inode.fields.ctime = volume.now();
    return volume.inodes().store(handle, inode, false);
  }();
  if (!stored) inode.fields = before;
  return stored;
}

Result<std::optional<std::vector<std::byte>>> find_xattr_value(Volume &volume, const Inode &inode,
                                                               format::XattrName name) {
  const auto copied = [](const format::XattrView &view) {
    return std::optional(std::vector<std::byte>(view.value.begin(), view.value.end()));
  };
  const InlineXattrs area = TRY(InlineXattrs::read(volume, inode));
  if (const auto found = TRY(area.find(name))) return copied(*found);
  const std::vector<std::byte> block = TRY(volume.xattr_blocks().read(inode));
  if (block.empty()) return std::nullopt;
  const format::XattrCursor cursor = TRY(format::XattrCursor::in_block(block));
  if (const auto found = TRY(format::find_xattr(cursor, name))) return copied(*found);
  return std::nullopt;
}

}  // namespace outboard::ext4
