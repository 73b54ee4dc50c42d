// What mkfs can make, feature by feature and block size by block size, through a real mount: filled by us and read by
// the kernel and debugfs; filled by the kernel and read by us; or mounted read-only, or refused, with the feature's
// name. The tables say what happens today.
#include "base/checksum.h"
#include "base/unique_fd.h"
#include "conformance/sample_tree.h"
#include "support/mounts.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace outboard::tests {
namespace {

struct FeatureSet {
  const char *name;
  std::vector<std::string> mkfs;
  std::vector<std::uint32_t> block_sizes = {1024, 4096};
  bool large_inodes = true;  // false: 128 bytes, whole seconds
  std::uint64_t megabytes = 96;
};

const std::vector<FeatureSet> kReadWrite = {
    {"ext4", {}, {1024, 2048, 4096, 65536}, true, 320},
    {"ext3", {"-t", "ext3"}, {1024, 2048, 4096}},
    {"ext2", {"-t", "ext2"}, {1024, 2048, 4096}},
    {"no_journal", {"-O", "^has_journal"}},
    {"no_extents", {"-O", "^extent,^64bit"}},
    {"no_64bit", {"-O", "^64bit"}},
    {"64bit", {"-O", "64bit"}},
    {"no_metadata_csum", {"-O", "^metadata_csum"}},
    {"uninit_bg", {"-O", "^metadata_csum,uninit_bg"}},
    {"metadata_csum_seed", {"-O", "metadata_csum_seed"}},
    {"large_dir", {"-O", "large_dir"}},
    {"no_dir_index", {"-O", "^dir_index"}},
    {"no_filetype", {"-O", "^filetype"}},
    {"no_dir_nlink", {"-O", "^dir_nlink"}},
    {"no_huge_file", {"-O", "^huge_file"}},
    {"no_flex_bg", {"-O", "^flex_bg"}},
    {"small_flex_bg", {"-G", "2"}},
    {"meta_bg", {"-O", "meta_bg,^resize_inode"}},
    {"no_sparse_super", {"-O", "^sparse_super,^resize_inode"}},
    {"sparse_super2", {"-O", "sparse_super2"}},
    {"orphan_file", {"-O", "orphan_file"}},
    {"project", {"-O", "project"}},
    {"stable_inodes", {"-O", "stable_inodes"}},
    {"fast_commit", {"-O", "fast_commit"}},
    {"inodes_128", {"-I", "128"}, {1024, 4096}, false},
    {"inodes_512", {"-I", "512"}},
    {"inodes_1024", {"-I", "1024"}},
    {"small_groups", {"-g", "4096"}, {1024}},
    {"everything", {"-O", "metadata_csum_seed,large_dir,orphan_file,fast_commit,sparse_super2,64bit", "-I", "512"}},
};

struct Case {
  const FeatureSet *set;
  std::uint32_t block_size;
};
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const FeatureSet &set : kReadWrite)
    for (const std::uint32_t block_size : set.block_sizes) all.push_back({&set, block_size});
  return all;
}
void PrintTo(const Case &one, std::ostream *out) { *out << one.set->name << " with blocks of " << one.block_size; }

std::uint32_t checksum_of(const std::string &image) {
  const std::string bytes = testing::read_file(image).value_or("");
  EXPECT_FALSE(bytes.empty());
  return crc32c(~0u, bytes.data(), bytes.size());
}

void expect_same(const std::vector<std::string> &found, const std::vector<std::string> &wanted, const char *who) {
  ASSERT_GT(wanted.size(), 300u) << "the sample is not there";
  for (std::size_t i = 0; i < std::max(found.size(), wanted.size()); ++i)
    ASSERT_EQ(i < found.size() ? found[i] : "(nothing)", i < wanted.size() ? wanted[i] : "(nothing)") << who;
}

// Does the kernel of this machine mount such an image? Read-only it takes features whose support it was built without.
bool kernel_mounts(const std::string &image, const std::string &directory, const char *options) {
  ::mkdir(directory.c_str(), 0755);
  const auto mounted = testing::run_command({"mount", "-t", "ext4", "-o", options, image, directory});
  if (!mounted || mounted->exit != 0) return false;
  const auto unmounted = testing::run_command({"umount", directory});
  return unmounted && unmounted->exit == 0;
}

class Conformance : public ::testing::Test {
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  }
  testing::CommandResult mount_command(const std::string &image, const std::vector<std::string> &more = {}) {
    ::mkdir(work_.file("mnt").c_str(), 0755);
    std::vector<std::string> words = {outboard_program(), "mount"};
    words.insert(words.end(), more.begin(), more.end());
    words.insert(words.end(), {image, work_.file("mnt")});
    auto result = testing::run_command(words);
    EXPECT_OK(result);
    return result.value_or(testing::CommandResult{});
  }
  // Exit status 32, one line with these words, and not a byte of the image changed.
  void expect_refused(const std::string &image, const std::string &words, const std::vector<std::string> &more = {}) {
    const std::uint32_t before = checksum_of(image);
    const auto result = mount_command(image, more);
    EXPECT_EQ(result.exit, 32) << result.err;
    EXPECT_NE(result.err.find(words), std::string::npos) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(checksum_of(image), before);
  }
  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("image");
};

class ReadWrite : public Conformance, public ::testing::WithParamInterface<Case> {
protected:
  void make() {
    ASSERT_OK(
        testing::make_image(image_, GetParam().set->megabytes << 20, GetParam().set->mkfs, GetParam().block_size));
    ASSERT_EQ(fsck_complaint(image_), "");
  }
  const SampleOptions options_{.nanoseconds = GetParam().set->large_inodes, .block_size = GetParam().block_size};
};

TEST_P(ReadWrite, FilledByUsIsReadAlikeByDebugfsTheKernelAndUs) {
  ASSERT_NO_FATAL_FAILURE(make());
  std::vector<std::string> wanted;
  std::string wanted_by_debugfs;
  {
    OutboardMount ours(image_, work_.file("ours"));
    ASSERT_TRUE(ours.mounted());
    ASSERT_OK(make_sample(ours.path(), options_));
    wanted = snapshot(ours.path(), options_);
    wanted_by_debugfs = as_debugfs_dumps(ours.path());
    ASSERT_EQ(ours.unmount(), "");
  }
  ASSERT_EQ(fsck_complaint(image_), "");
  const auto dump = testing::debugfs_dump(image_);
  ASSERT_OK(dump);
  EXPECT_EQ(*dump, wanted_by_debugfs);
  // The kernel has no room for blocks larger than its pages; attributes and times are then compared over a mount of
  // ours.
  if (GetParam().block_size <= static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE))) {
    KernelMount theirs(image_, work_.file("theirs"), "ro");
    ASSERT_TRUE(theirs.mounted());
    expect_same(snapshot(theirs.path(), options_), wanted, "mounted by the kernel");
    ASSERT_EQ(theirs.unmount(), "");
  } else {
    OutboardMount again(image_, work_.file("again"), {"ro"});
    ASSERT_TRUE(again.mounted());
    expect_same(snapshot(again.path(), options_), wanted, "mounted by us again");
    ASSERT_EQ(again.unmount(), "");
  }
}

TEST_P(ReadWrite, FilledByTheKernelIsReadAlikeByUsAndTakesChanges) {
  ASSERT_NO_FATAL_FAILURE(make());
  if (!kernel_mounts(image_, work_.file("probe"), "loop"))
    GTEST_SKIP() << "this kernel does not write such a file system";
  std::vector<std::string> wanted;
  {
    KernelMount theirs(image_, work_.file("theirs"));
    ASSERT_TRUE(theirs.mounted());
    ASSERT_OK(make_sample(theirs.path(), options_));
    wanted = snapshot(theirs.path(), options_);
    ASSERT_EQ(theirs.unmount(), "");
  }
  ASSERT_EQ(fsck_complaint(image_), "");
  {
    OutboardMount ours(image_, work_.file("ours"));
    ASSERT_TRUE(ours.mounted());
    expect_same(snapshot(ours.path(), options_), wanted, "filled by the kernel, mounted by us");
    // All of it goes, and a second sample finds room.
    const auto removed =
        testing::run_command({"rm", "-rf", ours.path() + "/deep", ours.path() + "/many", ours.path() + "/large"});
    ASSERT_TRUE(removed && removed->exit == 0) << removed->err;
    ASSERT_EQ(::mkdir((ours.path() + "/second").c_str(), 0755), 0);
    ASSERT_OK(make_sample(ours.path() + "/second", options_));
    ASSERT_EQ(ours.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image_), "");
}

INSTANTIATE_TEST_SUITE_P(Sets, ReadWrite, ::testing::ValuesIn(cases()), [](const auto &param) {
  return fmt::format("{}_{}", param.param.set->name, param.param.block_size);
});

// --- read-only by name
// ------------------------------------------------------------------------------------------------

struct ReadOnlySet {
  const char *name;
  const char *named;  // what the log line must name
  std::vector<std::string> mkfs;
  std::vector<std::string> tune;  // after the kernel has filled it: what this kernel may not be able to write itself
};

class ReadOnlyByName : public Conformance, public ::testing::WithParamInterface<ReadOnlySet> {};

TEST_P(ReadOnlyByName, IsMountedReadOnlyWithTheReasonAndReadAlike) {
  const ReadOnlySet &set = GetParam();
  ASSERT_OK(testing::make_image(image_, std::uint64_t{128} << 20, set.mkfs, 4096));
  const SampleOptions options;
  if (!kernel_mounts(image_, work_.file("probe"), "loop"))
    GTEST_SKIP() << "this kernel does not write such a file system";
  std::vector<std::string> wanted;
  {
    KernelMount theirs(image_, work_.file("theirs"));
    ASSERT_TRUE(theirs.mounted());
    ASSERT_OK(make_sample(theirs.path(), options));
    wanted = snapshot(theirs.path(), options);
    ASSERT_EQ(theirs.unmount(), "");
  }
  if (!set.tune.empty()) {
    std::vector<std::string> words = {"tune2fs"};
    words.insert(words.end(), set.tune.begin(), set.tune.end());
    words.push_back(image_);
    const auto tuned = testing::run_command(words);
    ASSERT_TRUE(tuned && tuned->exit == 0) << tuned->err;
  }
  ASSERT_EQ(fsck_complaint(image_), "");
  const std::uint32_t before = checksum_of(image_);
  {
    OutboardMount ours(image_, work_.file("ours"));
    ASSERT_TRUE(ours.mounted());
    EXPECT_NE(ours.log().find("read-only: features " + std::string(set.named)), std::string::npos) << ours.log();
    EXPECT_EQ(::mkdir((ours.path() + "/x").c_str(), 0755), -1);
    EXPECT_EQ(errno, EROFS);
    expect_same(snapshot(ours.path(), options), wanted, "filled by the kernel, mounted by us");
    ASSERT_EQ(ours.unmount(), "");
  }
  EXPECT_EQ(checksum_of(image_), before);
}

INSTANTIATE_TEST_SUITE_P(
    Sets, ReadOnlyByName,
    ::testing::Values(ReadOnlySet{"bigalloc", "bigalloc", {"-O", "bigalloc"}, {}},
                      ReadOnlySet{"bigalloc_clusters_64k", "bigalloc", {"-O", "bigalloc", "-C", "65536"}, {}},
                      ReadOnlySet{"quota", "quota", {}, {"-O", "quota"}},
                      ReadOnlySet{"verity", "verity", {}, {"-O", "verity"}}),
    [](const auto &param) { return param.param.name; });

// --- refused by name
// --------------------------------------------------------------------------------------------------

struct RefusedSet {
  const char *name;
  const char *words;  // in the message
  std::vector<std::string> mkfs;
};

class RefusedByName : public Conformance, public ::testing::WithParamInterface<RefusedSet> {};

TEST_P(RefusedByName, ExitsWith32AndLeavesTheImageAlone) {
  for (const std::uint32_t block_size : {1024u, 4096u}) {
    SCOPED_TRACE(block_size);
    ASSERT_OK(testing::make_image(image_, std::uint64_t{64} << 20, GetParam().mkfs, block_size));
    expect_refused(image_, GetParam().words);
    expect_refused(image_, GetParam().words, {"-r"});
  }
}

INSTANTIATE_TEST_SUITE_P(
    Sets, RefusedByName,
    ::testing::Values(RefusedSet{"inline_data", "unsupported features: inline_data", {"-O", "inline_data"}},
                      RefusedSet{"encrypt", "unsupported features: encrypt", {"-O", "encrypt"}},
                      RefusedSet{"casefold", "unsupported features: casefold", {"-O", "casefold"}},
                      RefusedSet{"ea_inode", "unsupported features: ea_inode", {"-O", "ea_inode"}},
                      RefusedSet{"mmp", "unsupported features: mmp", {"-O", "mmp"}},
                      RefusedSet{
                          "several", "unsupported features: inline_data, encrypt", {"-O", "inline_data,encrypt"}},
                      RefusedSet{"journal_device", "journal", {"-O", "journal_dev"}}),
    [](const auto &param) { return param.param.name; });

// --- journals
// ---------------------------------------------------------------------------------------------------------

// After fsyncs of small changes the kernel leaves fast commits in the journal: what they acknowledge is there for us, too.
TEST_F(Conformance, WhatTheKernelsFastCommitsHoldIsThere) {
  ASSERT_OK(testing::make_image(work_.file("live"), std::uint64_t{64} << 20, {"-O", "fast_commit"}));
  if (!kernel_mounts(work_.file("live"), work_.file("probe"), "loop")) GTEST_SKIP() << "this kernel has no ext4";
  {
    KernelMount theirs(work_.file("live"), work_.file("theirs"));
    ASSERT_TRUE(theirs.mounted());
    ASSERT_OK(testing::write_file(theirs.path() + "/f", "x"));
    ::sync();
    for (int i = 0; i < 3; ++i) {
      const UniqueFd fd(::open((theirs.path() + "/f").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
      ASSERT_TRUE(fd);
      ASSERT_EQ(::write(fd.get(), "more", 4), 4);
      ASSERT_EQ(::fsync(fd.get()), 0);
    }
    // The disk as a power loss would leave it now.
    ASSERT_OK(testing::write_file(image_, *testing::read_file(work_.file("live"))));
    ASSERT_EQ(theirs.unmount(), "");
  }
  const auto dump = testing::run_command({"dumpe2fs", "-h", image_});
  ASSERT_TRUE(dump && dump->out.find("needs_recovery") != std::string::npos);
  {
    OutboardMount ours(image_, work_.file("ours"));
    ASSERT_TRUE(ours.mounted());
    EXPECT_EQ(testing::read_file(ours.path() + "/f").value_or(""), "xmoremoremore");
    EXPECT_EQ(ours.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image_), "");
}

// mkfs makes file systems with an external journal on block devices only; the same fields by hand.
TEST_F(Conformance, AnExternalJournalMustBeGivenAndIsUsed) {
  constexpr const char *kUuid = "11111111-2222-3333-4444-555555555555";
  const std::string journal = work_.file("journal");
  for (const std::uint32_t block_size : {1024u, 4096u}) {
    SCOPED_TRACE(block_size);
    ASSERT_OK(testing::make_image(journal, std::uint64_t{16} << 20, {"-O", "journal_dev", "-U", kUuid}, block_size));
    ASSERT_OK(testing::make_image(image_, std::uint64_t{160} << 20, {"-O", "^has_journal"}, block_size));
    ASSERT_OK(testing::debugfs_write(image_, {"feature has_journal", "set_super_value journal_dev 0x700",
                                              std::string("set_super_value journal_uuid ") + kUuid}));
    expect_refused(image_, "journal");
    const SampleOptions options{.block_size = block_size};
    std::vector<std::string> wanted;
    {
      OutboardMount ours(image_, work_.file("ours"), {"journal_path=" + journal});
      ASSERT_TRUE(ours.mounted());
      ASSERT_OK(make_sample(ours.path(), options));
      wanted = snapshot(ours.path(), options);
      const std::uint32_t before = checksum_of(journal);
      const auto synced = testing::run_command({outboard_program(), "sync", ours.path()});
      ASSERT_TRUE(synced && synced->exit == 0);
      ASSERT_OK(testing::write_file(ours.path() + "/last", "x"));
      ASSERT_EQ(testing::run_command({outboard_program(), "sync", ours.path()})->exit, 0);
      EXPECT_NE(checksum_of(journal), before) << "the journal is not what the mount writes to";
      ASSERT_EQ(::unlink((ours.path() + "/last").c_str()), 0);
      wanted = snapshot(ours.path(), options);
      ASSERT_EQ(ours.unmount(), "");
    }
    const auto fsck = testing::run_command({"e2fsck", "-fn", "-j", journal, image_});
    ASSERT_TRUE(fsck && fsck->exit == 0) << fsck->out << fsck->err;
    OutboardMount again(image_, work_.file("again"), {"journal_path=" + journal});
    ASSERT_TRUE(again.mounted());
    expect_same(snapshot(again.path(), options), wanted, "mounted by us again");
    ASSERT_EQ(again.unmount(), "");
  }
}

}  // namespace
}  // namespace outboard::tests
