// Names: what is refused, and renames that touch up to four inodes.
#include "vfs/test_volume.h"

#include <linux/fs.h>

namespace outboard::vfs {
namespace {

Status rename(MountedImage &image, NodeId from, std::string_view name, NodeId to, std::string_view new_name,
              std::uint32_t flags = 0) {
  return image->rename(from, name, to, new_name, flags, {});
}

TEST(Names, ErrorsAreThoseOfTheSystemCalls) {
  MountedImage image;
  const NodeId file = image.file("file"), directory = image.directory("directory");
  image.file(directory, "inner");
  EXPECT_ERROR(image->lookup(kRootNode, "nothing"), ENOENT);
  EXPECT_ERROR(image->lookup(file, "x"), ENOTDIR);
  EXPECT_ERROR(image->lookup(kRootNode, std::string(256, 'n')), ENAMETOOLONG);
  EXPECT_ERROR(image->make_node(kRootNode, "file", 0100644, 0, {}), EEXIST);
  EXPECT_ERROR(image->make_node(file, "x", 0100644, 0, {}), ENOTDIR);
  EXPECT_ERROR(image->make_node(kRootNode, "x", 0040755, 0, {}), EPERM);
  EXPECT_ERROR(image->make_directory(kRootNode, "directory", 0755, {}), EEXIST);
  EXPECT_ERROR(image->unlink(kRootNode, "directory"), EISDIR);
  EXPECT_ERROR(image->remove_directory(kRootNode, "file"), ENOTDIR);
  EXPECT_ERROR(image->remove_directory(kRootNode, "directory"), ENOTEMPTY);
  EXPECT_ERROR(image->remove_directory(kRootNode, "."), EINVAL);
  EXPECT_ERROR(image->remove_directory(kRootNode, ".."), ENOTEMPTY);
  EXPECT_ERROR(image->link(directory, kRootNode, "x"), EPERM);
  EXPECT_ERROR(image->link(file, kRootNode, "directory"), EEXIST);
  EXPECT_ERROR(image->read_link(file), EINVAL);
  EXPECT_ERROR(image->read(directory, 0, {}), EISDIR);
  EXPECT_EQ(image.peek(directory, ".")->node, directory);
  EXPECT_EQ(image.peek(directory, "..")->node, kRootNode);
  image.unmount();
}

TEST(Names, NothingIsMadeInARemovedDirectory) {
  MountedImage image;
  const NodeId directory = image.directory("d"), file = image.file("f");
  ASSERT_OK(image->remove_directory(kRootNode, "d"));
  EXPECT_ERROR(image->make_node(directory, "x", 0100644, 0, {}), ENOENT);
  EXPECT_ERROR(image->make_directory(directory, "x", 0755, {}), ENOENT);
  EXPECT_ERROR(image->link(file, directory, "x"), ENOENT);
  EXPECT_ERROR(image->lookup(directory, "x"), ENOENT);
  EXPECT_ERROR(rename(image, kRootNode, "f", directory, "x"), ENOENT);
  EXPECT_EQ(image.attributes(directory).links, 0u);
  image.unmount();
}

TEST(Names, ADirectoryMovesWithItsParentEntryAndBothLinkCounts) {
  MountedImage image;
  const NodeId a = image.directory("a"), b = image.directory("b"), moving = image.directory(a, "moving");
  image.file(moving, "inside");
  EXPECT_EQ(image.attributes(a).links, 3u);
  ASSERT_OK(rename(image, a, "moving", b, "moved"));
  EXPECT_ERROR(image->lookup(a, "moving"), ENOENT);
  EXPECT_EQ(image.peek(b, "moved")->node, moving);
  EXPECT_EQ(image.peek(moving, "..")->node, b);
  EXPECT_OK(image.peek(moving, "inside"));
  EXPECT_EQ(image.attributes(a).links, 2u);
  EXPECT_EQ(image.attributes(b).links, 3u);
  image.unmount();
}

TEST(Names, ADirectoryDoesNotMoveBelowItself) {
  MountedImage image;
  const NodeId a = image.directory("a"), b = image.directory(a, "b"), c = image.directory(b, "c");
  EXPECT_ERROR(rename(image, kRootNode, "a", c, "x"), EINVAL);
  EXPECT_ERROR(rename(image, kRootNode, "a", a, "x"), EINVAL);
  EXPECT_ERROR(rename(image, kRootNode, "a", b, "c", RENAME_EXCHANGE), EINVAL);
  EXPECT_ERROR(rename(image, b, "c", kRootNode, "a", RENAME_EXCHANGE), EINVAL);
  EXPECT_OK(rename(image, b, "c", kRootNode, "c"));
  EXPECT_OK(rename(image, kRootNode, "a", c, "a"));
  EXPECT_EQ(image.peek(c, "a")->node, a);
  image.unmount();
}

TEST(Names, ATargetReplacedWhileItIsHeldLivesOn) {
  MountedImage image;
  const NodeId old = image.file("target"), source = image.file("source");
  image.write(old, "old");
  image.write(source, "new");
  ASSERT_OK(rename(image, kRootNode, "source", kRootNode, "target"));
  EXPECT_EQ(image.peek(kRootNode, "target")->node, source);
  EXPECT_ERROR(image->lookup(kRootNode, "source"), ENOENT);
  EXPECT_EQ(image.attributes(old).links, 0u);
  EXPECT_EQ(image.read(old), "old");
  image->forget(old, 1);
  EXPECT_TRUE(eventually([&] { return image.gone(old); }));
  EXPECT_EQ(image.read(source), "new");
  image.unmount();
}

TEST(Names, ReplacingKeepsToTheKindsAndToEmptyDirectories) {
  MountedImage image;
  image.file("file");
  const NodeId full = image.directory("full");
  image.file(full, "x");
  image.directory("empty");
  EXPECT_ERROR(rename(image, kRootNode, "file", kRootNode, "empty"), EISDIR);
  EXPECT_ERROR(rename(image, kRootNode, "empty", kRootNode, "file"), ENOTDIR);
  EXPECT_ERROR(rename(image, kRootNode, "empty", kRootNode, "full"), ENOTEMPTY);
  EXPECT_OK(rename(image, kRootNode, "full", kRootNode, "empty"));
  EXPECT_EQ(image.peek(kRootNode, "empty")->node, full);
  image.unmount();
}

TEST(Names, TheFlagsOfRenameDoWhatTheySay) {
  MountedImage image;
  const NodeId a = image.file("a"), d = image.directory("d"), in = image.directory(d, "in");
  EXPECT_ERROR(rename(image, kRootNode, "a", d, "in", RENAME_NOREPLACE), EEXIST);
  EXPECT_ERROR(rename(image, kRootNode, "a", d, "none", RENAME_EXCHANGE), ENOENT);
  EXPECT_ERROR(rename(image, kRootNode, "a", d, "in", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
  EXPECT_ERROR(rename(image, kRootNode, "a", d, "in", 1u << 20), EINVAL);
  // A file and a directory change places, across directories.
  ASSERT_OK(rename(image, kRootNode, "a", d, "in", RENAME_EXCHANGE));
  EXPECT_EQ(image.peek(kRootNode, "a")->node, in);
  EXPECT_EQ(image.peek(d, "in")->node, a);
  EXPECT_EQ(image.peek(in, "..")->node, kRootNode);
  EXPECT_EQ(image.attributes(d).links, 2u);
  // A whiteout stays behind: a character device 0, 0.
  ASSERT_OK(rename(image, d, "in", d, "out", RENAME_WHITEOUT));
  EXPECT_EQ(image.peek(d, "out")->node, a);
  const auto whiteout = image.peek(d, "in");
  ASSERT_OK(whiteout);
  EXPECT_EQ(whiteout->attributes.mode & 0170000u, 0020000u);
  EXPECT_EQ(whiteout->attributes.device_major + whiteout->attributes.device_minor, 0u);
  image.unmount();
}

TEST(Names, TwoNamesOfOneFileAreNoRename) {
  MountedImage image;
  const NodeId file = image.file("one");
  ASSERT_OK(image->link(file, kRootNode, "two"));
  EXPECT_OK(rename(image, kRootNode, "one", kRootNode, "two"));
  EXPECT_EQ(image.peek(kRootNode, "one")->node, file);
  EXPECT_EQ(image.attributes(file).links, 2u);
  image.unmount();
}

TEST(Names, SymbolicLinksShortAndLong) {
  MountedImage image;
  for (const std::size_t length : {1u, 59u, 60u, 4095u}) {
    const std::string target(length, 't'), name = "l" + std::to_string(length);
    const auto made = image->make_symlink(kRootNode, name, target, {});
    ASSERT_OK(made);
    EXPECT_EQ(image->read_link(made->node).value_or(""), target);
    EXPECT_EQ(made->attributes.size, length);
  }
  image.unmount();
}

}  // namespace
}  // namespace outboard::vfs
