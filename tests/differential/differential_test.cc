// The same random operations on an Outboard mount and on the kernel's ext4: same results, same errno, same tree -- and the
// same tree again after each has mounted the other's image.
#include "differential/operation.h"
#include "support/mounts.h"
#include "testing/expect.h"

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>

namespace outboard::tests {
namespace {

// What Linux's FUSE client refuses before a server is asked; the kernel's own ext4 allows it. That it is the client is
// checked each time: the server must not have received a request with this opcode meanwhile.
struct ClientRefusal {
  Operation::Kind kind;
  std::int32_t flags;
  const char *answer;
  fuse::wire::Opcode opcode;
  const char *why;
};
constexpr ClientRefusal kClientRefusals[] = {
    {Operation::Kind::allocate, FALLOC_FL_COLLAPSE_RANGE, "EOPNOTSUPP", fuse::wire::Opcode::fallocate,
     "fuse passes on keep-size, punch and zero only"},
    {Operation::Kind::allocate, FALLOC_FL_INSERT_RANGE, "EOPNOTSUPP", fuse::wire::Opcode::fallocate,
     "fuse passes on keep-size, punch and zero only"},
};

// The entry of the table for such an operation; null when it is none.
const ClientRefusal *client_refusal(const Operation &o) {
  const auto *found = std::find_if(std::begin(kClientRefusals), std::end(kClientRefusals), [&](const ClientRefusal &refusal) {
    return refusal.kind == o.kind && refusal.flags == o.flags;
  });
  return found != std::end(kClientRefusals) ? found : nullptr;
}

std::uint64_t from_environment(const char *name, std::uint64_t otherwise) {
  const char *value = std::getenv(name);
  return value != nullptr ? std::strtoull(value, nullptr, 10) : otherwise;
}

// The last operations that named this path.
std::string about(const std::vector<std::string> &history, const std::string &path) {
  std::string text;
  int left = 14;
  for (auto line = history.rbegin(); line != history.rend() && left > 0; ++line)
    if (line->find("=" + path + " ") != std::string::npos) {
      text.insert(0, *line + "\n");
      --left;
    }
  return text;
}

struct Variant {
  const char *name;
  std::vector<std::string> mkfs;
};

class Differential : public ::testing::TestWithParam<Variant> {};

void expect_same(const std::vector<std::string> &ours, const std::vector<std::string> &theirs, const char *when) {
  for (std::size_t i = 0; i < std::max(ours.size(), theirs.size()); ++i) {
    const std::string a = i < ours.size() ? ours[i] : "(nothing)", b = i < theirs.size() ? theirs[i] : "(nothing)";
    ASSERT_EQ(a, b) << when;
  }
}

TEST_P(Differential, RandomOperationsHaveTheKernelsResults) {
  if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  const std::uint64_t count = from_environment("OUTBOARD_DIFFERENTIAL_OPERATIONS", 25000);
  const std::uint64_t seed = from_environment("OUTBOARD_SEED", 1);
  testing::TemporaryDirectory work;
  const std::string ours_image = work.file("ours.img"), theirs_image = work.file("theirs.img");
  ASSERT_OK(testing::make_image(ours_image, std::uint64_t{512} << 20, GetParam().mkfs, 0));
  ASSERT_OK(testing::make_image(theirs_image, std::uint64_t{512} << 20, GetParam().mkfs, 0));
  std::vector<std::string> final_dump;
  {
    OutboardMount ours(ours_image, work.file("ours"));
    KernelMount theirs(theirs_image, work.file("theirs"));
    ASSERT_TRUE(ours.mounted() && theirs.mounted());
    ::umask(022);
    Tree our_tree(ours.path()), their_tree(theirs.path());
    OperationSource source(seed);
    std::uint64_t refused = 0, succeeded = 0;
    std::vector<std::string> history;
    for (std::uint64_t i = 0; i < count; ++i) {
      const Operation o = source.next();
      const ClientRefusal *const due = client_refusal(o);
      const std::uint64_t received = due != nullptr ? requests_received(ours, due->opcode) : 0;
      const std::string our_outcome = our_tree.perform(o);
      if (due != nullptr && our_outcome == due->answer) {  // not carried out on the other side either
        ASSERT_EQ(requests_received(ours, due->opcode), received)
            << "the server refused it, not the client (" << due->why << "): operation " << i << ": " << describe(o);
        ++refused;
        continue;
      }
      const std::string their_outcome = their_tree.perform(o);
      if (their_outcome.starts_with("ok")) history.push_back(fmt::format("{}: {}", i, describe(o)));
      ASSERT_EQ(our_outcome, their_outcome) << "operation " << i << ": " << describe(o) << "\nbefore it:\n" << about(history, o.path);
      if (!their_outcome.starts_with("ok")) continue;
      for (const std::string &path : {o.path, o.other})
        ASSERT_EQ(our_tree.line(path), their_tree.line(path)) << path << " after operation " << i << ": " << describe(o) << "\nbefore it:\n" << about(history, o.path);
      ++succeeded;
      source.succeeded(o);
    }
    our_tree.close_slots();
    their_tree.close_slots();
    final_dump = our_tree.dump();
    std::vector<std::string> their_dump = their_tree.dump();
    expect_same(final_dump, their_dump, "while mounted");
    fmt::print("differential {}: {} operations, {} succeeded on both, {} refused by the client, {} paths at the end\n",
               GetParam().name, count, succeeded, refused, final_dump.size());
    ASSERT_EQ(ours.unmount(), "");
    ASSERT_EQ(theirs.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(ours_image), "");
  EXPECT_EQ(fsck_complaint(theirs_image), "");
  OutboardMount ours(theirs_image, work.file("ours-swapped"));
  KernelMount theirs(ours_image, work.file("theirs-swapped"));
  ASSERT_TRUE(ours.mounted() && theirs.mounted());
  expect_same(Tree(theirs.path()).dump(), final_dump, "our image, mounted by the kernel");
  expect_same(Tree(ours.path()).dump(), final_dump, "the kernel's image, mounted by us");
  if (HasFailure()) ADD_FAILURE() << ours.log();
}

// Every entry of the table on a file that is there and long enough, so that nothing but the client stands in the way; and
// that the counters tell: what the client passes on is counted.
TEST(DifferentialTable, RefusalsAreTheClientsAndReachNoServer) {
  if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  testing::TemporaryDirectory work;
  const std::string image = work.file("image"), other = work.file("other.img");
  ASSERT_OK(testing::make_image(image, std::uint64_t{32} << 20));
  ASSERT_OK(testing::make_image(other, std::uint64_t{32} << 20));
  OutboardMount ours(image, work.file("ours"));
  KernelMount theirs(other, work.file("theirs"));
  ASSERT_TRUE(ours.mounted() && theirs.mounted());
  for (const Mount *mount : {static_cast<const Mount *>(&ours), static_cast<const Mount *>(&theirs)})
    ASSERT_OK(testing::write_file(mount->path() + "/file", std::string(16 * 4096, 'd')));
  Tree our_tree(ours.path()), their_tree(theirs.path());
  Operation passed_on;
  passed_on.kind = Operation::Kind::allocate;
  passed_on.path = "file";
  passed_on.offset = passed_on.length = 4096;
  passed_on.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  const std::uint64_t none = requests_received(ours, fuse::wire::Opcode::fallocate);
  ASSERT_EQ(our_tree.perform(passed_on), "ok 0");
  ASSERT_EQ(requests_received(ours, fuse::wire::Opcode::fallocate), none + 1);
  for (const ClientRefusal &refusal : kClientRefusals) {
    SCOPED_TRACE(refusal.flags);
    Operation o = passed_on;
    o.kind = refusal.kind;
    o.flags = refusal.flags;
    const std::uint64_t received = requests_received(ours, refusal.opcode);
    EXPECT_EQ(our_tree.perform(o), refusal.answer);
    EXPECT_EQ(requests_received(ours, refusal.opcode), received) << refusal.why;
    EXPECT_EQ(their_tree.perform(o), "ok 0") << "no refusal of the client's: nobody can do it";
  }
}

INSTANTIATE_TEST_SUITE_P(Images, Differential,
                         ::testing::Values(Variant{"ext4", {}}, Variant{"ext4_1k", {"-b", "1024"}},
                                           Variant{"ext3", {"-t", "ext3"}}, Variant{"ext2", {"-t", "ext2"}}),
                         [](const auto &param) { return param.param.name; });

}  // namespace
}  // namespace outboard::tests
