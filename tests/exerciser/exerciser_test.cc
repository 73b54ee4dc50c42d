// The exerciser on a mount and over the library: every read, size, hole and error is what the model says, e2fsck is
// content afterwards, and the kernel's own mount shows the same bytes.
//
// OUTBOARD_EXERCISER_OPERATIONS: per image and driver, all seeds together. OUTBOARD_EXERCISER_SEEDS: how many seeds.
// OUTBOARD_SEED: the first. OUTBOARD_EXERCISER_FILES: files at once. OUTBOARD_EXERCISER_VERIFY: operations between
// looks at everything (1 finds the culprit; it does not change what is done). OUTBOARD_EXERCISER_KEEP: a directory for
// failed images.
#include "exerciser/exerciser.h"
#include "exerciser/library_subject.h"
#include "exerciser/mount_subject.h"
#include "support/mounts.h"
#include "testing/expect.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <ostream>

namespace outboard::exerciser {
namespace {

using tests::KernelMount;

std::uint64_t from_environment(const char *name, std::uint64_t otherwise) {
  const char *value = std::getenv(name);
  return value != nullptr ? std::strtoull(value, nullptr, 10) : otherwise;
}

struct Variant {
  const char *name;
  std::vector<std::string> mkfs;
  std::uint32_t block_size;
  bool extents;
  std::uint64_t
      max_blocks;  // of one file: with block maps enough for double indirect blocks, with extents for a tree of levels
};
void PrintTo(const Variant &variant, std::ostream *out) { *out << variant.name; }

Traits traits_of(const Variant &variant) {
  Traits traits;
  traits.block_size = variant.block_size;
  traits.extents = variant.extents;
  traits.files = static_cast<unsigned>(from_environment("OUTBOARD_EXERCISER_FILES", 2));
  traits.max_size = variant.block_size * variant.max_blocks;
  return traits;
}

class ExerciserTest : public ::testing::TestWithParam<Variant> {
protected:
  void SetUp() override {
    if (std::string why = tests::why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  }
  void TearDown() override {
    const char *keep = std::getenv("OUTBOARD_EXERCISER_KEEP");
    if (keep == nullptr || !HasFailure()) return;
    std::error_code ignored;
    std::filesystem::copy(image_, std::string(keep) + "/" + GetParam().name + ".img", ignored);
  }
  void make_image() {
    const std::uint64_t size = std::uint64_t{GetParam().block_size == 4096 ? 96u : 48u} << 20;
    ASSERT_OK(testing::make_image(image_, size, GetParam().mkfs, GetParam().block_size));
  }
  // The image, as e2fsck and the kernel see it.
  void expect_sound(const Model &model, unsigned files) {
    EXPECT_EQ(tests::fsck_complaint(image_), "");
    if (HasFailure()) return;
    const KernelMount kernel(image_, work_.file("kernel"), "ro");
    ASSERT_TRUE(kernel.mounted());
    for (unsigned file = 0; file < files; ++file) {
      const auto bytes = testing::read_file(fmt::format("{}/file{}", kernel.path(), file));
      ASSERT_OK(bytes);
      EXPECT_EQ(difference(model.contents(file), std::as_bytes(std::span(*bytes)), 0, GetParam().block_size), "")
          << "file " << file << " on the kernel's mount";
    }
  }
  // Every kind of operation has been there, or the run shows nothing.
  static void expect_all_kinds(const Exerciser &exerciser, const Traits &traits, std::uint64_t operations) {
    if (operations < 2000) return;
    for (std::size_t i = 0; i < kKinds; ++i) {
      const auto kind = static_cast<Operation::Kind>(i);
      const bool shift = kind == Operation::Kind::collapse || kind == Operation::Kind::insert;
      const bool restart = kind == Operation::Kind::remount || kind == Operation::Kind::crash;
      if (due_refusal(traits, kind) != 0 || (shift && !traits.shifts) || restart) continue;
      EXPECT_GT(exerciser.succeeded(kind), 0u) << exerciser::name_of(kind);
    }
  }

  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
};

struct Clock {
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }
};

void tell(const char *driver, const char *variant, std::uint64_t seed, std::uint64_t operations, double seconds) {
  fmt::print("exerciser {} {} seed {}: {} operations, {:.0f} a second\n", driver, variant, seed, operations,
             static_cast<double>(operations) / seconds);
}

TEST_P(ExerciserTest, LibraryHoldsWhatTheModelSays) {
  Traits traits = traits_of(GetParam());
  traits.shifts = true;
  const std::uint64_t seeds = from_environment("OUTBOARD_EXERCISER_SEEDS", 2),
                      first = from_environment("OUTBOARD_SEED", 1);
  const std::uint64_t operations = from_environment("OUTBOARD_EXERCISER_OPERATIONS", 20000) / seeds;
  for (std::uint64_t seed = first; seed < first + seeds && !HasFailure(); ++seed) {
    make_image();
    ASSIGN_OK(auto subject, LibrarySubject::open(image_, traits.files));
    Exerciser exerciser(*subject, traits, seed, from_environment("OUTBOARD_EXERCISER_VERIFY", 500));
    const Clock clock;
    const std::string complaint = exerciser.run(operations);
    ASSERT_TRUE(complaint.empty()) << complaint;
    tell("library", GetParam().name, seed, operations, clock.seconds());
    ASSERT_OK(subject->unmount_to(image_));
    expect_sound(exerciser.model(), traits.files);
    expect_all_kinds(exerciser, traits, operations);
  }
}

TEST_P(ExerciserTest, MountHoldsWhatTheModelSays) {
  Traits traits = traits_of(GetParam());
  traits.restarts = 4;  // each takes some hundred operations' time
  const std::uint64_t seeds = from_environment("OUTBOARD_EXERCISER_SEEDS", 1),
                      first = from_environment("OUTBOARD_SEED", 1);
  const std::uint64_t operations = from_environment("OUTBOARD_EXERCISER_OPERATIONS", 4000) / seeds;
  for (std::uint64_t seed = first; seed < first + seeds && !HasFailure(); ++seed) {
    make_image();
    MountSubject subject(image_, work_.file("mnt"), traits.files);
    ASSERT_TRUE(subject.ready());
    Exerciser exerciser(subject, traits, seed, from_environment("OUTBOARD_EXERCISER_VERIFY", 1000));
    const Clock clock;
    const std::string complaint = exerciser.run(operations);
    ASSERT_TRUE(complaint.empty()) << complaint << subject.log();
    tell("mount", GetParam().name, seed, operations, clock.seconds());
    ASSERT_EQ(subject.unmount(), "");
    expect_sound(exerciser.model(), traits.files);
    expect_all_kinds(exerciser, traits, operations);
  }
}

INSTANTIATE_TEST_SUITE_P(Images, ExerciserTest,
                         ::testing::Values(Variant{"ext4_4k", {}, 4096, true, 640},
                                           Variant{"ext4_1k", {}, 1024, true, 1500},
                                           Variant{"block_map_1k", {"-t", "ext3"}, 1024, false, 640},
                                           Variant{"block_map_4k", {"-t", "ext3"}, 4096, false, 1200}),
                         [](const auto &param) { return param.param.name; });

// More is asked for than there is. (Through a mount the kernel acknowledges what it has no space for; that is not ours
// to judge.)
class FullDiskTest : public ExerciserTest {};

TEST_P(FullDiskTest, LibraryKeepsWhatItAcknowledged) {
  Traits traits = traits_of(GetParam());
  traits.shifts = traits.may_fill = true;
  traits.files = 12;
  const std::uint64_t seeds = from_environment("OUTBOARD_EXERCISER_SEEDS", 2),
                      first = from_environment("OUTBOARD_SEED", 1);
  const std::uint64_t operations = from_environment("OUTBOARD_EXERCISER_OPERATIONS", 6000) / seeds;
  for (std::uint64_t seed = first; seed < first + seeds && !HasFailure(); ++seed) {
    // The journal, the rest of the metadata, and an eighth of what the files may come to: they are sparse. mkfs gives
    // no journal to less than 2048 blocks.
    const std::uint64_t size = std::max(std::uint64_t{1100} * traits.block_size + (std::uint64_t{1} << 19) +
                                            traits.max_size * traits.files / 8,
                                        std::uint64_t{2100} * traits.block_size);
    ASSERT_OK(testing::make_image(image_, size, GetParam().mkfs, GetParam().block_size));
    ASSIGN_OK(auto subject, LibrarySubject::open(image_, traits.files));
    Exerciser exerciser(*subject, traits, seed, from_environment("OUTBOARD_EXERCISER_VERIFY", 500));
    const Clock clock;
    const std::string complaint = exerciser.run(operations);
    ASSERT_TRUE(complaint.empty()) << complaint;
    tell("full disk", GetParam().name, seed, operations, clock.seconds());
    fmt::print("  {} of them met a full disk\n", exerciser.short_of_space());
    if (operations >= 3000) {
      EXPECT_GT(exerciser.short_of_space(), 0u);
    }
    ASSERT_OK(subject->unmount_to(image_));
    expect_sound(exerciser.model(), traits.files);
  }
}

INSTANTIATE_TEST_SUITE_P(Images, FullDiskTest,
                         ::testing::Values(Variant{"ext4_4k", {}, 4096, true, 400},
                                           Variant{"ext4_1k", {}, 1024, true, 1000},
                                           Variant{"block_map_1k", {"-t", "ext3"}, 1024, false, 1000}),
                         [](const auto &param) { return param.param.name; });

}  // namespace
}  // namespace outboard::exerciser
