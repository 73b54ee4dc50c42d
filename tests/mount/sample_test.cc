// `outboard sample`: the small file systems as programs see them through the kernel.
#include "base/unique_fd.h"
#include "support/mounts.h"
#include "testing/expect.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace outboard::tests {
namespace {

class Sample : public ::testing::TestWithParam<bool> {  // --direct
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
    ASSERT_EQ(::mkdir(directory_.c_str(), 0755), 0);
    ASSERT_OK(testing::write_file(image_, std::string(std::size_t{8} << 20, '\xEE')));
  }
  void TearDown() override { ::umount2(directory_.c_str(), MNT_DETACH); }

  testing::CommandResult outboard(std::vector<std::string> words) {
    words.insert(words.begin(), outboard_program());
    auto result = testing::run_command(words);
    EXPECT_OK(result);
    return result.value_or(testing::CommandResult{});
  }
  void mount(const std::string &name, bool format) {
    std::vector<std::string> words{"sample", name, image_, directory_};
    if (format) words.push_back("--format");
    if (GetParam()) words.push_back("--direct");
    const auto result = outboard(words);
    ASSERT_EQ(result.exit, 0) << result.err;
  }
  void unmount() {
    const auto result = outboard({"umount", directory_});
    ASSERT_EQ(result.exit, 0) << result.err;
  }
  std::string path(const std::string &name) const { return directory_ + "/" + name; }
  static std::string text(std::size_t size, unsigned seed) {
    std::string out(size, 'a');
    for (std::size_t n = 0; n < size; ++n) out[n] = static_cast<char>('a' + (n * n + seed * 7 + n / 26) % 26);
    return out;
  }
  void expect_text(const std::string &name, const std::string &expected) {
    const auto read = testing::read_file(path(name));
    ASSERT_OK(read);
    EXPECT_TRUE(*read == expected) << name;
  }

  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("image"), directory_ = work_.file("mnt");
};

TEST_P(Sample, OutOfPlaceKeepsFilesAcrossMounts) {
  mount("out-of-place", true);
  for (unsigned n = 0; n < 4; ++n) ASSERT_OK(testing::write_file(path("f" + std::to_string(n)), text(300000 + n, n)));
  {
    const UniqueFd file(::open(path("f1").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(::pwrite(file.get(), "here", 4, 100001), 4);
    ASSERT_EQ(::ftruncate(file.get(), 200000), 0);
    ASSERT_EQ(::fsync(file.get()), 0);
  }
  ASSERT_EQ(::unlink(path("f2").c_str()), 0);
  std::string expected = text(300001, 1).substr(0, 200000);
  expected.replace(100001, 4, "here");
  expect_text("f1", expected);
  unmount();
  mount("out-of-place", false);
  expect_text("f0", text(300000, 0));
  expect_text("f1", expected);
  expect_text("f3", text(300003, 3));
  EXPECT_NE(::access(path("f2").c_str(), F_OK), 0);
  EXPECT_NE(::mkdir(path("d").c_str(), 0755), 0);
  EXPECT_EQ(errno, EPERM);
  unmount();
}

TEST_P(Sample, InlineFilesAreSmall) {
  mount("inline", true);
  ASSERT_OK(testing::write_file(path("note"), text(3000, 1)));
  {
    const UniqueFd file(::open(path("large").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
    const std::string large = text(10000, 2);
    // The kernel's write-back cache takes it and hears of the limit later; then fsync tells.
    const ssize_t written = ::write(file.get(), large.data(), large.size());
    EXPECT_TRUE(written < 10000 || ::fsync(file.get()) != 0);
  }
  unmount();
  mount("inline", false);
  expect_text("note", text(3000, 1));
  unmount();
}

TEST_P(Sample, LinearIsTheDevice) {
  mount("linear", false);
  struct stat s {};
  ASSERT_EQ(::stat(path("data").c_str(), &s), 0);
  EXPECT_EQ(s.st_size, 8 << 20);
  const std::string bytes = text(50000, 3);
  {
    const UniqueFd file(::open(path("data").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(::pwrite(file.get(), bytes.data(), bytes.size(), 12345), 50000);
    ASSERT_EQ(::fsync(file.get()), 0);
  }
  unmount();
  const auto image = testing::read_file(image_);
  ASSERT_OK(image);
  EXPECT_TRUE(image->substr(12345, 50000) == bytes);
  EXPECT_EQ((*image)[12344], '\xEE');
  EXPECT_EQ((*image)[12345 + 50000], '\xEE');
}

TEST_P(Sample, WhatIsNoSampleIsRefusedInOneLine) {
  const auto result = outboard({"sample", "out-of-place", image_, directory_});
  EXPECT_EQ(result.exit, 32);
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  EXPECT_NE(result.err.find("--format"), std::string::npos) << result.err;
  EXPECT_EQ(outboard({"sample", "circular", image_, directory_}).exit, 1);
}

INSTANTIATE_TEST_SUITE_P(Caches, Sample, ::testing::Bool(), [](const auto &test) { return test.param ? "Direct" : "Cached"; });

}  // namespace
}  // namespace outboard::tests
