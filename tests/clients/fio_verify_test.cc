// fio writes, reads back and verifies checksums: through the page cache, past it, through mappings, and all mixed, four
// jobs at a time; then it writes once more, and verifies that on the kernel's mount. OUTBOARD_FIO_SECONDS: how long
// each (5).
#include "support/mounts.h"
#include "testing/expect.h"

#include <cstdlib>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <ostream>
#include <sys/stat.h>

namespace outboard::tests {
namespace {

struct Variant {
  const char *name;
  const char *jobs;  // of the job file, behind [global]; four in all
};

// With verify_backlog what was written is read back and checked while more is written, and all of it at the end of each
// pass.
constexpr Variant kVariants[] = {
    {"buffered", "[buffered]\nnumjobs=4\nioengine=psync\nfsync=200\n"},
    {"direct", "[direct]\nnumjobs=4\nioengine=libaio\niodepth=8\ndirect=1\n"},
    {"mapped", "[mapped]\nnumjobs=4\nioengine=mmap\n"},
    {"mixed", "[buffered]\nioengine=psync\nfdatasync=100\n[direct]\nioengine=libaio\niodepth=8\ndirect=1\n"
              "[mapped]\nioengine=mmap\n[appending]\nrw=write\nbs=64k\nioengine=psync\nend_fsync=1\n"},
};

std::vector<std::string> split(const std::string &line) {
  std::vector<std::string> fields(1);
  for (const char c : line) {
    if (c == ';') fields.emplace_back();
    else fields.back() += c;
  }
  return fields;
}

struct Totals {
  unsigned long verified = 0, written = 0;  // KiB
};

void PrintTo(const Variant &variant, std::ostream *out) { *out << variant.name; }

class Fio : public ::testing::TestWithParam<Variant> {
protected:
  // The variant's jobs in this directory, with these words added to [global].
  void run(const std::string &directory, const std::string &more, std::chrono::seconds deadline, Totals &totals) {
    ASSERT_OK(testing::write_file(
        work_.file("job.fio"),
        fmt::format("[global]\ndirectory={}\nsize=32m\nrw=randwrite\nbsrange=4k-64k\nblockalign=4k\nverify=crc32c\n"
                    "verify_fatal=1\nverify_state_save=0\nfallocate=none\ngroup_reporting=1\n{}{}",
                    directory, more, GetParam().jobs)));
    testing::CommandOptions options;
    options.deadline = deadline;
    auto result =
        testing::run_command({"fio", "--output-format=terse", "--terse-version=3", work_.file("job.fio")}, options);
    ASSERT_OK(result);
    ASSERT_EQ(result->exit, 0) << result->out << result->err;
    // One line for all jobs: its fields, from 1, are 5 the error, 6 the KiB read (that is, verified), 47 the KiB
    // written.
    const std::vector<std::string> fields = split(result->out);
    ASSERT_GT(fields.size(), 47u) << result->out;
    EXPECT_EQ(fields[4], "0") << result->out << result->err;
    totals.verified = std::strtoul(fields[5].c_str(), nullptr, 10);
    totals.written = std::strtoul(fields[46].c_str(), nullptr, 10);
  }
  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
};

TEST_P(Fio, FindsEveryBlockAsItWroteIt) {
  if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  if (!testing::have_program("fio")) GTEST_SKIP() << "fio is not installed";
  const char *asked = std::getenv("OUTBOARD_FIO_SECONDS");
  const unsigned seconds = asked != nullptr ? static_cast<unsigned>(std::strtoul(asked, nullptr, 10)) : 5;
  ASSERT_OK(testing::make_image(image_, std::uint64_t{1} << 30, {}, 0));
  Totals live, once, again;
  {
    OutboardMount mount(image_, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    ASSERT_NO_FATAL_FAILURE(run(mount.path(), fmt::format("verify_backlog=256\ntime_based=1\nruntime={}\n", seconds),
                                std::chrono::seconds(300 + seconds * 4), live));
    // In files of their own: the same blocks from before would pass for these.
    ASSERT_EQ(::mkdir((mount.path() + "/once").c_str(), 0755), 0);
    ASSERT_NO_FATAL_FAILURE(run(mount.path() + "/once", "do_verify=0\n", std::chrono::seconds(300), once));
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image_), "");
  KernelMount kernel(image_, work_.file("kernel"));
  ASSERT_TRUE(kernel.mounted());
  ASSERT_NO_FATAL_FAILURE(run(kernel.path() + "/once", "verify_only=1\n", std::chrono::seconds(300), again));
  fmt::print(
      "fio {}: {} s, {} MiB written, {} MiB verified; {} MiB written once, {} MiB verified on the kernel's mount\n",
      GetParam().name, seconds, live.written >> 10, live.verified >> 10, once.written >> 10, again.verified >> 10);
  // On a busy machine the time may be over before anything is verified; what is written once is verified whole.
  EXPECT_GT(once.written, 0u);
  EXPECT_EQ(again.verified, once.written);
}

INSTANTIATE_TEST_SUITE_P(Ways, Fio, ::testing::ValuesIn(kVariants), [](const auto &param) { return param.param.name; });

}  // namespace
}  // namespace outboard::tests
