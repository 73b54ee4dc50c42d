// Journaled files as clients see them: written with and without O_DIRECT, truncated, and switched while there is data.
#include "vfs/test_volume.h"

#include "ext4/journaled_data.h"

#include <linux/falloc.h>
#include <linux/fs.h>

namespace outboard::vfs {
namespace {

void set_journaled(MountedImage &image, NodeId node, bool on) {
  std::uint32_t flags = 0;
  ASSERT_OK(image->ioctl(node, FS_IOC_GETFLAGS, {}, std::as_writable_bytes(std::span(&flags, 1)), Caller{}));
  flags = on ? flags | FS_JOURNAL_DATA_FL : flags & ~std::uint32_t{FS_JOURNAL_DATA_FL};
  ASSERT_OK(image->ioctl(node, FS_IOC_SETFLAGS, std::as_bytes(std::span(&flags, 1)), {}, Caller{}));
}

std::string pattern(std::size_t size, char first) {
  std::string text(size, '\0');
  for (std::size_t n = 0; n < size; ++n) text[n] = static_cast<char>(first + n % 23);
  return text;
}

TEST(JournaledDataVfs, ADirectWriteTakesTheJournal) {
  MountedImage image;
  const NodeId node = image.file("f");
  set_journaled(image, node, true);
  const std::string text = pattern(64 << 10, 'a'), other = pattern(16 << 10, 'A');
  image.write(node, text);
  ASSERT_OK(image->sync(node, true));
  const std::uint64_t logged = image->volume().journal().counters().logged_blocks;
  for (const std::uint64_t at : {std::uint64_t{8192}, std::uint64_t{100 << 10}}) {  // inside, and behind the end
    ASSERT_EQ(image->write(node, at, bytes_of(other), {.direct = true}).value_or(0), other.size());
  }
  ASSERT_OK(image->sync(node, true));
  EXPECT_GE(image->volume().journal().counters().logged_blocks, logged + 8);
  std::string model = text;
  model.resize(116 << 10);
  model.replace(8192, other.size(), other);
  model.replace(100 << 10, other.size(), other);
  EXPECT_TRUE(image.read(node, 1 << 20) == model);
  image.unmount();
}

TEST(JournaledDataVfs, SwitchedWithDirtyDataNothingIsLost) {
  MountedImage image;
  const NodeId node = image.file("f");
  std::string model = pattern(200 << 10, 'a');
  image.write(node, model);  // dirty, without blocks
  for (int round = 0; round < 6; ++round) {
    set_journaled(image, node, round % 2 == 0);
    ASSERT_TRUE(image.read(node, 1 << 20) == model) << round;
    const std::string piece = pattern(30000, static_cast<char>('b' + round));
    const std::uint64_t at = 5000 + 17000u * static_cast<unsigned>(round);
    image.write(node, piece, at);
    model.replace(at, piece.size(), piece);
    ASSERT_TRUE(image.read(node, 1 << 20) == model) << round;
  }
  // Direct writes to a file whose log copies are gone for good.
  const std::string direct = pattern(8192, 'Z');
  ASSERT_EQ(image->write(node, 4096, bytes_of(direct), {.direct = true}).value_or(0), direct.size());
  model.replace(4096, direct.size(), direct);
  ASSERT_OK(image->sync(node, false));
  image.crash();
  image.mount();
  const auto entry = image->lookup(kRootNode, "f");
  ASSERT_OK(entry);
  EXPECT_TRUE(image.read(entry->node, 1 << 20) == model);
  image.unmount();
}

TEST(JournaledDataVfs, AMountWithDataJournalKeepsWhatFsyncSaid) {
  MountedVolumeOptions options;
  options.volume.journal_data = true;
  MountedImage image({}, 16, options);
  const NodeId node = image.file("f");
  std::string model = pattern(300 << 10, 'a');
  image.write(node, model);
  SetAttributes size;
  size.size = 123457;
  ASSERT_OK(image->set_attributes(node, size));
  model.resize(123457);
  ASSERT_OK(image->allocate(node, 50000, 20000, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE));
  model.replace(50000, 20000, 20000, '\0');
  size.size = 150000;
  ASSERT_OK(image->set_attributes(node, size));
  model.resize(150000);
  ASSERT_OK(image->allocate(node, 1000, 30000, FALLOC_FL_ZERO_RANGE));
  model.replace(1000, 30000, 30000, '\0');
  image.write(node, "in zeros", 9000);
  model.replace(9000, 8, "in zeros");
  EXPECT_TRUE(image.read(node, 1 << 20) == model);
  ASSERT_OK(image->sync(node, false));
  image.crash();
  image.mount();  // ordered
  const auto entry = image->lookup(kRootNode, "f");
  ASSERT_OK(entry);
  EXPECT_TRUE(image.read(entry->node, 1 << 20) == model);
  image.unmount();
}

}  // namespace
}  // namespace outboard::vfs
