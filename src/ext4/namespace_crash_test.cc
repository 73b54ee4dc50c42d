// Crashes: the state of the device at every flush is what a power cut may leave. From each of them recovery (e2fsck's and
// ours) must lead to a sound volume in which every operation has happened or not happened, whole and in order.
#include "device/memory_device.h"
#include "ext4/directory.h"
#include "ext4/inode_alloc.h"
#include "ext4/namespace.h"
#include "ext4/truncate.h"
#include "ext4/volume.h"
#include "testing/command.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"
#include "testing/image_builder.h"

#include <random>
#include <set>

namespace outboard::ext4 {
namespace {

// Keeps a copy of the contents at each flush, as they were before it and as they are after it.
class FlushRecorder final : public device::BlockDevice {
public:
  explicit FlushRecorder(std::unique_ptr<device::MemoryDevice> below) : below_(std::move(below)) {}
  const device::Properties &properties() const override { return below_->properties(); }
  Status read(std::uint64_t offset, std::span<std::byte> data) override { return below_->read(offset, data); }
  Status write(std::uint64_t offset, std::span<const std::byte> data) override {
    MutexLock lock(mutex_);
    changed_ = true;
    return below_->write(offset, data);
  }
  Status flush() override {
    MutexLock lock(mutex_);
    if (changed_ && recording_) states_.push_back(below_->clone());
    changed_ = false;
    return below_->flush();
  }
  Status discard(std::uint64_t offset, std::uint64_t length) override { return below_->discard(offset, length); }

  void record() {
    MutexLock lock(mutex_);
    recording_ = true;
  }
  std::vector<std::unique_ptr<device::MemoryDevice>> take() {
    MutexLock lock(mutex_);
    recording_ = false;
    return std::move(states_);
  }

private:
  std::unique_ptr<device::MemoryDevice> below_;
  Mutex mutex_{Rank::device};
  std::vector<std::unique_ptr<device::MemoryDevice>> states_ GUARDED_BY(mutex_);
  bool changed_ GUARDED_BY(mutex_) = false;
  bool recording_ GUARDED_BY(mutex_) = false;
};

// The names of a volume: path to type, depth first.
Status collect(Volume &volume, const Inode &directory, const std::string &path, std::set<std::string> &all) {
  std::vector<std::pair<std::string, InodeNumber>> entries;
  Inode copy = directory;
  TRY(Directory(volume, copy).iterate(0, [&](std::span<const Directory::Item> items, std::uint64_t) {
    for (const Directory::Item &item : items)
      if (item.name != "." && item.name != "..") entries.emplace_back(item.name, item.inode);
    return true;
  }));
  for (const auto &[name, number] : entries) {
    const Inode inode = TRY(volume.inodes().load(number));
    all.insert(path + "/" + name + (inode.is_directory() ? "/" : ""));
    if (inode.is_directory()) TRY(collect(volume, inode, path + "/" + name, all));
  }
  return {};
}

struct Operation {
  const char *name;
  std::function<Status(Volume &)> run;
};

Result<Inode> at(Volume &volume, std::string_view path) {
  Inode inode = TRY(volume.inodes().load(format::kRootInode));
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    const DirectoryMatch match = TRY(Directory::find(volume, inode, path.substr(0, slash)));
    inode = TRY(volume.inodes().load(match.inode));
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
  }
  return inode;
}

struct Place {
  Inode directory;
  std::string name;
};
Result<Place> place(Volume &volume, const std::string &path) {
  const std::size_t slash = path.rfind('/');
  Inode directory = TRY(at(volume, slash == std::string::npos ? "" : path.substr(0, slash)));
  return Place{std::move(directory), path.substr(slash + 1)};
}

Status create(Volume &volume, const std::string &path, std::uint32_t mode, std::string_view target = "") {
  Place where = TRY(place(volume, path));
  TRY(names::create(volume, where.directory, where.name, {.mode = mode, .symlink_target = target}));
  return {};
}
Status link(Volume &volume, const std::string &old_path, const std::string &path) {
  Place where = TRY(place(volume, path));
  Inode target = TRY(at(volume, old_path));
  return names::link(volume, where.directory, where.name, target);
}
Status remove(Volume &volume, const std::string &path, bool keep_open = false) {
  Place where = TRY(place(volume, path));
  Inode target = TRY(at(volume, path));
  if (target.is_directory()) TRY(names::remove_directory(volume, where.directory, where.name, target));
  else TRY(names::unlink(volume, where.directory, where.name, target));
  if (target.fields.links == 0 && !keep_open) return truncate::delete_inode(volume, target);
  return {};
}
Status rename(Volume &volume, const std::string &from, const std::string &to, bool exchange = false, bool whiteout = false) {
  Place old_place = TRY(place(volume, from)), new_place = TRY(place(volume, to));
  Inode source = TRY(at(volume, from));
  Result<Inode> target = at(volume, to);
  const bool same = old_place.directory.number == new_place.directory.number;
  TRY(names::rename(volume, {.old_directory = &old_place.directory,
                             .old_name = old_place.name,
                             .source = &source,
                             .new_directory = same ? &old_place.directory : &new_place.directory,
                             .new_name = new_place.name,
                             .target = target ? &*target : nullptr,
                             .exchange = exchange,
                             .whiteout = whiteout}));
  if (!exchange && target && target->fields.links == 0) return truncate::delete_inode(volume, *target);
  return {};
}

constexpr std::uint32_t kFile = 0100644, kDir = 0040755, kLink = 0120777;

std::vector<Operation> operations() {
  std::vector<Operation> all{
      {"create a file", [](Volume &v) { return create(v, "a/new", kFile); }},
      {"make a directory", [](Volume &v) { return create(v, "a/newdir", kDir); }},
      {"make a short link", [](Volume &v) { return create(v, "a/short", kLink, "x"); }},
      {"make a long link", [](Volume &v) { return create(v, "a/long", kLink, std::string(300, 'x')); }},
      {"link", [](Volume &v) { return link(v, "a/f1", "b/linked"); }},
      {"unlink one of two names", [](Volume &v) { return remove(v, "a/f1"); }},
      {"unlink the last name", [](Volume &v) { return remove(v, "a/f2"); }},
      {"unlink an open file", [](Volume &v) { return remove(v, "a/f3", true); }},
      {"remove a directory", [](Volume &v) { return remove(v, "a/newdir"); }},
      {"rename", [](Volume &v) { return rename(v, "a/f4", "a/renamed"); }},
      {"rename over a file", [](Volume &v) { return rename(v, "a/f5", "b/f5"); }},
      {"rename a directory across", [](Volume &v) { return rename(v, "a/sub", "b/sub"); }},
      {"rename over a directory", [](Volume &v) { return rename(v, "b/sub", "b/empty"); }},
      {"exchange a file and a directory", [](Volume &v) { return rename(v, "a/f6", "b/empty", true); }},
      {"whiteout", [](Volume &v) { return rename(v, "a/f7", "b/f7", false, true); }},
      {"temporary file", [](Volume &v) -> Status {
         Inode root = TRY(v.inodes().load(format::kRootInode));
         TRY(names::create_temporary(v, root, {.mode = kFile}));
         return {};
       }}};
  for (int i = 0; i < 60; ++i)  // grows through the index
    all.push_back({"fill", [i](Volume &v) { return create(v, "c/" + std::to_string(i) + std::string(90, 'c'), kFile); }});
  return all;
}

Status prepare(Volume &volume) {
  for (const char *path : {"a", "b", "c", "a/sub", "b/empty"}) TRY(create(volume, path, kDir));
  for (int i = 1; i <= 9; ++i) TRY(create(volume, "a/f" + std::to_string(i), kFile));
  TRY(create(volume, "b/f5", kFile));
  return {};
}

class NamespaceCrash : public ::testing::TestWithParam<const char *> {};

TEST_P(NamespaceCrash, EveryCommitIsASoundVolume) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.file("image");
  ASSERT_OK(testing::make_image(path, std::uint64_t{16} << 20, {"-O", GetParam()}, 1024));
  ASSIGN_OK(auto below, device::MemoryDevice::from_file(path));
  FlushRecorder device(std::move(below));
  ASSIGN_OK(auto volume, Volume::open(device, {}));
  ASSERT_OK(prepare(*volume));
  ASSERT_OK(volume->sync());

  std::vector<std::set<std::string>> history(1);
  const auto remember = [&] {
    const auto root = volume->inodes().load(format::kRootInode);
    ASSERT_OK(root);
    ASSERT_OK(collect(*volume, *root, "", history.back()));
  };
  remember();
  device.record();
  for (const Operation &operation : operations()) {
    SCOPED_TRACE(operation.name);
    ASSERT_OK(operation.run(*volume));
    history.emplace_back();
    remember();
    // Some operations share a transaction, most have their own.
    if (history.size() % 3 != 0) { ASSERT_OK(volume->journal().commit_running()); }
  }
  ASSERT_OK(volume->sync());
  const auto states = device.take();
  volume.reset();
  EXPECT_GT(states.size(), history.size() / 2);

  std::size_t reached = 0;
  for (std::size_t i = 0; i < states.size(); ++i) {
    SCOPED_TRACE("state " + std::to_string(i));
    ASSERT_OK(states[i]->save(path));
    const auto preen = testing::run_command({"e2fsck", "-p", path});  // the journal, then the orphans; stops at anything else
    ASSERT_OK(preen);
    ASSERT_LE(preen->exit, 1) << preen->out;
    const testing::FsckReport report = testing::fsck(path);
    ASSERT_TRUE(report.clean) << report.text;

    ASSIGN_OK(auto again, Volume::open(*states[i], {}));
    std::set<std::string> names;
    ASSIGN_OK(const Inode root, again->inodes().load(format::kRootInode));
    ASSERT_OK(collect(*again, root, "", names));
    // One of the states that were, and none before the one already reached.
    std::size_t now = reached;
    while (now < history.size() && history[now] != names) ++now;
    ASSERT_LT(now, history.size());
    reached = now;
    ASSERT_OK(again->close());
    ASSERT_OK(states[i]->save(path));
    const testing::FsckReport ours = testing::fsck(path);
    ASSERT_TRUE(ours.clean) << ours.text;
  }
  EXPECT_EQ(history[reached], history.back());
}

INSTANTIATE_TEST_SUITE_P(, NamespaceCrash,
                         ::testing::Values("metadata_csum,64bit,extents", "^metadata_csum,^extents,^64bit", "orphan_file"),
                         [](const auto &test) {
                           return test.index == 0 ? "Checksums" : test.index == 1 ? "OldFormat" : "OrphanFile";
                         });

}  // namespace
}  // namespace outboard::ext4
