// fio writes, reads back and verifies checksums: through the page cache, past it, through mappings, and all mixed, four
// jobs at a time. OUTBOARD_FIO_SECONDS: how long each (5).
#include "support/mounts.h"
#include "testing/expect.h"

#include <cstdlib>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace outboard::tests {
namespace {

struct Variant {
  const char *name;
  const char *jobs;  // of the job file, behind [global]; four in all
};

// With verify_backlog what was written is read back and checked while more is written, and all of it at the end of each pass.
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

class Fio : public ::testing::TestWithParam<Variant> {};

TEST_P(Fio, FindsEveryBlockAsItWroteIt) {
  if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  if (!testing::have_program("fio")) GTEST_SKIP() << "fio is not installed";
  const char *asked = std::getenv("OUTBOARD_FIO_SECONDS");
  const unsigned seconds = asked != nullptr ? static_cast<unsigned>(std::strtoul(asked, nullptr, 10)) : 5;
  testing::TemporaryDirectory work;
  const std::string image = work.file("disk.img");
  ASSERT_OK(testing::make_image(image, std::uint64_t{1} << 30, {}, 0));
  {
    OutboardMount mount(image, work.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    const std::string job = fmt::format("[global]\ndirectory={}\nsize=32m\nrw=randwrite\nbsrange=4k-64k\nblockalign=4k\nverify=crc32c\n"
                                        "verify_fatal=1\nverify_backlog=256\ntime_based=1\nruntime={}\n"
                                        "fallocate=none\ngroup_reporting=1\n{}",
                                        mount.path(), seconds, GetParam().jobs);
    ASSERT_OK(testing::write_file(work.file("job.fio"), job));
    testing::CommandOptions options;
    options.deadline = std::chrono::seconds(300 + seconds * 4);
    auto result = testing::run_command({"fio", "--output-format=terse", "--terse-version=3", work.file("job.fio")}, options);
    ASSERT_OK(result);
    ASSERT_EQ(result->exit, 0) << result->out << result->err << mount.log();
    // One line for all jobs: its fields, from 1, are 5 the error, 6 the KiB read (that is, verified), 47 the KiB written.
    const std::vector<std::string> fields = split(result->out);
    ASSERT_GT(fields.size(), 47u) << result->out;
    EXPECT_EQ(fields[4], "0") << result->out << result->err;
    const unsigned long verified = std::strtoul(fields[5].c_str(), nullptr, 10), written = std::strtoul(fields[46].c_str(), nullptr, 10);
    EXPECT_GT(verified, 0u);
    EXPECT_GT(written, 0u);
    fmt::print("fio {}: {} s, {} MiB written, {} MiB verified\n", GetParam().name, seconds, written >> 10, verified >> 10);
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image), "");
}

INSTANTIATE_TEST_SUITE_P(Ways, Fio, ::testing::ValuesIn(kVariants), [](const auto &param) { return param.param.name; });

}  // namespace
}  // namespace outboard::tests
