// Attributes: access times, privileges that go with a change, read-only volumes, counts.
#include "vfs/test_volume.h"

#include <algorithm>
#include <linux/falloc.h>
#include <sys/xattr.h>

namespace outboard::vfs {
namespace {

constexpr Timestamp kLongAgo{1'000'000'000, 5};

void set_times(MountedImage &image, NodeId node, Timestamp accessed, Timestamp modified) {
  SetAttributes changes;
  changes.accessed = accessed;
  changes.modified = changes.changed = modified;
  ASSERT_OK(image->set_attributes(node, changes));
}

struct Policy {
  const char *name;
  AtimePolicy policy;
  bool after_a_change, within_a_day, after_a_day;  // is the access time moved by a read?
};

class AccessTimes : public ::testing::TestWithParam<Policy> {};

TEST_P(AccessTimes, FollowThePolicyAndReachTheDisk) {
  MountedVolumeOptions options;
  options.atime = GetParam().policy;
  MountedImage image({}, 16, options);
  const NodeId node = image.file("f");
  image.write(node, "text");
  const Timestamp now = image.attributes(node).modified;
  const Timestamp recently{now.seconds - 3600, 0}, before_that{now.seconds - 7200, 0};
  const auto moved_by_a_read = [&](Timestamp accessed, Timestamp modified) {
    set_times(image, node, accessed, modified);
    EXPECT_EQ(image.attributes(node).accessed, accessed);
    image.read(node);
    return image.attributes(node).accessed != accessed;
  };
  EXPECT_EQ(moved_by_a_read(before_that, recently), GetParam().after_a_change);
  EXPECT_EQ(moved_by_a_read(recently, recently), GetParam().after_a_change);
  EXPECT_EQ(moved_by_a_read(recently, before_that), GetParam().within_a_day);
  EXPECT_EQ(moved_by_a_read({now.seconds - 90000, 0}, {now.seconds - 100000, 0}), GetParam().after_a_day);
  // In memory only so far; an unmount writes it, and so does a sync.
  const Timestamp last = image.attributes(node).accessed;
  image.unmount();
  image.mount(options);
  EXPECT_EQ(image.peek(kRootNode, "f")->attributes.accessed, last);
  set_times(image, node, kLongAgo, kLongAgo);
  image.read(node);
  const Timestamp read_again = image.attributes(node).accessed;
  ASSERT_OK(image->sync_all());
  image.mount(options);
  EXPECT_EQ(image.peek(kRootNode, "f")->attributes.accessed, read_again);
  image.unmount();
}

INSTANTIATE_TEST_SUITE_P(Policies, AccessTimes,
                         ::testing::Values(Policy{"Relative", AtimePolicy::relative, true, false, true},
                                           Policy{"Never", AtimePolicy::never, false, false, false},
                                           Policy{"Strict", AtimePolicy::strict, true, true, true}),
                         [](const auto &param) { return param.param.name; });

TEST(Attributes, WrittenPagesLeaveTheTimesToTheClient) {
  MountedImage image;
  const NodeId node = image.file("f");
  set_times(image, node, kLongAgo, kLongAgo);
  ASSERT_OK(image->write(node, 0, bytes_of("x"), {.from_page_cache = true}));
  EXPECT_EQ(image.attributes(node).modified, kLongAgo);
  ASSERT_OK(image->write(node, 0, bytes_of("x"), {}));
  EXPECT_GT(image.attributes(node).modified, kLongAgo);
  image.unmount();
}

// --- privileges ------------------------------------------------------------------------------------------------------

class Privileges : public ::testing::Test {
protected:
  static constexpr std::uint32_t kGroup = 500;
  // A set-user-id and set-group-id program with a capability.
  NodeId program(std::uint32_t mode) {
    const auto made = image_->make_node(kRootNode, "program", 0100000 | mode, 0, {.uid = 100, .gid = kGroup});
    EXPECT_OK(made);
    EXPECT_OK(image_->set_xattr(made->node, "security.capability", bytes_of("some capability"), 0, false));
    return made->node;
  }
  std::uint32_t mode(NodeId node) { return image_.attributes(node).mode & 07777u; }
  bool has_capability(NodeId node) { return image_->get_xattr(node, "security.capability", {}).has_value(); }
  MountedImage image_;
};

TEST_F(Privileges, StayWithAWriterWhoMayKeepThem) {
  const NodeId node = program(06755);
  image_.write(node, "x");
  EXPECT_EQ(mode(node), 06755u);
  EXPECT_TRUE(has_capability(node));
  image_.unmount();
}

TEST_F(Privileges, GoWithAWriterWhoMayNot) {
  const NodeId node = program(06755);
  ASSERT_OK(image_->write(node, 0, bytes_of("x"), {.kill_privileges = true, .writer_gid = 7}));
  EXPECT_EQ(mode(node), 0755u);
  EXPECT_FALSE(has_capability(node));
  image_.unmount();
}

TEST_F(Privileges, ASetgidThatIsNotForExecutionStaysWithTheGroup) {
  const NodeId node = program(06644);
  ASSERT_OK(image_->write(node, 0, bytes_of("x"), {.kill_privileges = true, .writer_gid = kGroup}));
  EXPECT_EQ(mode(node), 02644u);
  ASSERT_OK(image_->write(node, 0, bytes_of("x"), {.kill_privileges = true, .writer_gid = 7}));
  EXPECT_EQ(mode(node), 0644u);
  image_.unmount();
}

TEST_F(Privileges, GoWithATruncationThatSaysSoAndWithEveryNewOwner) {
  const NodeId node = program(06755);
  SetAttributes truncation;
  truncation.size = 0;
  ASSERT_OK(image_->set_attributes(node, truncation));
  EXPECT_EQ(mode(node), 06755u);
  truncation.kill_privileges = true;
  ASSERT_OK(image_->set_attributes(node, truncation));
  EXPECT_EQ(mode(node), 0755u);
  EXPECT_FALSE(has_capability(node));

  SetAttributes privileged;
  privileged.mode = 06755;
  ASSERT_OK(image_->set_attributes(node, privileged));
  SetAttributes new_owner;
  new_owner.uid = 200;
  ASSERT_OK(image_->set_attributes(node, new_owner));
  EXPECT_EQ(mode(node), 0755u);
  image_.unmount();
}

TEST_F(Privileges, ADirectoryKeepsItsBitsWithANewOwner) {
  const NodeId node = image_.directory("d");
  SetAttributes bits;
  bits.mode = 02755;
  ASSERT_OK(image_->set_attributes(node, bits));
  SetAttributes new_owner;
  new_owner.uid = 200;
  ASSERT_OK(image_->set_attributes(node, new_owner));
  EXPECT_EQ(mode(node), 02755u);
  image_.unmount();
}

// --- read-only -------------------------------------------------------------------------------------------------------

TEST(ReadOnly, EveryChangeIsEROFSAndNothingReachesTheDevice) {
  MountedImage image;
  const NodeId file = image.file("f"), directory = image.directory("d");
  image.write(file, "text");
  ASSERT_OK(image->set_xattr(file, "user.a", bytes_of("1"), 0, false));
  image.unmount();
  std::vector<std::byte> before(image.device().properties().size), after(before.size());
  ASSERT_OK(image.device().read(0, before));
  image.device().set_read_only(true);
  MountedVolumeOptions options;
  options.volume.read_only = true;
  options.atime = AtimePolicy::strict;
  image.mount(options);
  EXPECT_ERROR(image->make_node(kRootNode, "x", 0100644, 0, {}), EROFS);
  EXPECT_ERROR(image->make_directory(kRootNode, "x", 0755, {}), EROFS);
  EXPECT_ERROR(image->make_symlink(kRootNode, "x", "t", {}), EROFS);
  EXPECT_ERROR(image->make_temporary(kRootNode, 0600, {}), EROFS);
  EXPECT_ERROR(image->link(file, kRootNode, "x"), EROFS);
  EXPECT_ERROR(image->unlink(kRootNode, "f"), EROFS);
  EXPECT_ERROR(image->remove_directory(kRootNode, "d"), EROFS);
  EXPECT_ERROR(image->rename(kRootNode, "f", directory, "f", 0, {}), EROFS);
  EXPECT_ERROR(image->write(file, 0, bytes_of("x"), {}), EROFS);
  EXPECT_ERROR(image->allocate(file, 0, 4096, 0), EROFS);
  EXPECT_ERROR(image->set_attributes(file, {.mode = 0600}), EROFS);
  EXPECT_ERROR(image->set_xattr(file, "user.b", bytes_of("1"), 0, false), EROFS);
  EXPECT_ERROR(image->remove_xattr(file, "user.a"), EROFS);
  EXPECT_EQ(image.read(file), "text");
  EXPECT_OK(image->get_xattr(file, "user.a", {}));
  ListingSink sink(4096, true);
  EXPECT_OK(image->read_directory(kRootNode, 0, true, sink));
  EXPECT_EQ(sink.names.size(), 5u);  // the dots, lost+found, two of ours
  EXPECT_OK(image->sync(file, false));
  EXPECT_OK(image->sync_all());
  EXPECT_OK(image->statistics());
  image.unmount();
  ASSERT_OK(image.device().read(0, after));
  EXPECT_TRUE(before == after);
}

// --- counts ----------------------------------------------------------------------------------------------------------

TEST(Statistics, FollowWhatIsMadeWrittenAndFreed) {
  MountedImage image;
  const Statistics empty = *image->statistics();
  EXPECT_EQ(empty.block_size, 4096u);
  EXPECT_EQ(empty.name_max, 255u);
  EXPECT_LE(empty.free_blocks, empty.blocks);
  EXPECT_LT(empty.available_blocks, empty.free_blocks) << "five per cent are kept for root";
  const NodeId node = image.file("f");
  EXPECT_EQ(image->statistics()->free_inodes, empty.free_inodes - 1);
  image.write(node, std::string(40 * 4096, 'x'));
  EXPECT_EQ(image->statistics()->free_blocks, empty.free_blocks - 40);
  EXPECT_EQ(image.attributes(node).sectors, 40u * 8);
  ASSERT_OK(image->allocate(node, 0, 16 * 4096, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE));
  ASSERT_OK(image->sync_all());  // freed is not free until it is durable
  EXPECT_EQ(image->statistics()->free_blocks, empty.free_blocks - 24);
  EXPECT_EQ(image.attributes(node).sectors, 24u * 8);
  EXPECT_EQ(image.attributes(node).size, 40u * 4096);
  image.unmount();
}

TEST(Attributes, XattrCallsAskForTheSizeAndRefuseTooLittleRoom) {
  MountedImage image;
  const NodeId node = image.file("f");
  ASSERT_OK(image->set_xattr(node, "user.name", bytes_of("value"), XATTR_CREATE, false));
  EXPECT_ERROR(image->set_xattr(node, "user.name", bytes_of("v"), XATTR_CREATE, false), EEXIST);
  EXPECT_ERROR(image->set_xattr(node, "user.none", bytes_of("v"), XATTR_REPLACE, false), ENODATA);
  EXPECT_ERROR(image->set_xattr(node, "user.name", bytes_of("v"), 8, false), EINVAL);
  EXPECT_EQ(image->get_xattr(node, "user.name", {}).value_or(0), 5u);
  std::byte room[16];
  EXPECT_ERROR(image->get_xattr(node, "user.name", std::span(room).first(4)), ERANGE);
  EXPECT_EQ(image->get_xattr(node, "user.name", room).value_or(0), 5u);
  EXPECT_EQ(image->list_xattrs(node, {}).value_or(0), std::string_view("user.name").size() + 1);
  EXPECT_ERROR(image->list_xattrs(node, std::span(room).first(4)), ERANGE);
  EXPECT_OK(image->remove_xattr(node, "user.name"));
  EXPECT_ERROR(image->remove_xattr(node, "user.name"), ENODATA);
  image.unmount();
}

}  // namespace
}  // namespace outboard::vfs
