// Directories against a model: what was put in is found, listed once and judged sound by e2fsck.
#include "ext4/directory.h"

#include "ext4/credits.h"
#include "ext4/directory_htree.h"
#include "ext4/namespace.h"
#include "ext4/test_image.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace outboard::ext4 {
namespace {

using testing::debugfs;

std::string numbered(const char *prefix, std::size_t number) { return prefix + std::to_string(number); }

std::string random_name(std::mt19937 &random, std::size_t number, std::size_t longest = 60) {
  std::string name = std::to_string(number) + "-";
  const std::size_t more = random() % longest;
  for (std::size_t i = 0; i < more; ++i) {
    const char c = static_cast<char>(random() % 255 + 1);
    name += c == '/' ? '_' : c;
  }
  name.resize(std::min<std::size_t>(name.size(), 255));
  return name;
}

// A directory whose names are all links of one file.
class LinkFarm {
public:
  explicit LinkFarm(TestImage &image) : image_(image) {
    Inode root = image.find("");
    auto directory = names::create(volume(), root, "dir", {.mode = 0040755});
    auto file = names::create(volume(), root, "file", {.mode = 0100644});
    EXPECT_OK(directory);
    EXPECT_OK(file);
    if (!directory || !file) std::abort();
    directory_ = *std::move(directory);
    file_ = *std::move(file);
  }
  // An image that has been closed and opened again, or that somebody else filled.
  LinkFarm(TestImage &image, const std::string &directory, const std::string &file)
      : image_(image), directory_(image.find(directory)), file_(image.find(file)) {}

  Volume &volume() { return image_.volume(); }
  Inode &inode() { return directory_; }
  Directory directory() { return {volume(), directory_}; }
  InodeNumber target() const { return file_.number; }

  Status insert(std::string_view name) {
    Directory d = directory();
    jbd2::Handle handle = TRY(volume().journal().start(d.insert_credits() + credits::kStoreInode));
    Status done = d.insert(handle, name, file_.number, 1);
    handle.finish();
    if (done) ++links_;
    return done;
  }
  Status remove(std::string_view name) {
    Directory d = directory();
    jbd2::Handle handle = TRY(volume().journal().start(d.change_credits()));
    Status done = d.remove(handle, name, file_.number);
    handle.finish();
    if (done) --links_;
    return done;
  }
  // So that the link count agrees with the names.
  void settle() {
    auto handle = volume().journal().start(2);
    ASSERT_OK(handle);
    file_.fields.links += static_cast<std::uint32_t>(links_);
    links_ = 0;
    EXPECT_OK(volume().inodes().store(*handle, file_));
    EXPECT_OK(volume().inodes().store(*handle, directory_));
    handle->finish();
  }

private:
  TestImage &image_;
  Inode directory_, file_;
  std::int64_t links_ = 0;
};

// Everything from `from` on, in pieces of at most `piece` names (one position's names stay together).
std::multiset<std::string> list(const Directory &directory, std::size_t piece = 100, std::uint64_t from = 0) {
  std::multiset<std::string> all;
  for (;;) {
    std::size_t got = 0;
    const Status status = directory.iterate(from, [&](std::span<const Directory::Item> items, std::uint64_t next) {
      if (got > 0 && got + items.size() > piece) return false;
      EXPECT_GT(next, from);
      EXPECT_EQ(next >> 63, 0u);
      for (const Directory::Item &item : items) all.emplace(item.name);
      got += items.size();
      from = next;
      return true;
    });
    EXPECT_OK(status);
    if (!status || got == 0) return all;
  }
}

template <class Names> std::multiset<std::string> with_dots(const Names &names) {
  std::multiset<std::string> all(names.begin(), names.end());
  all.insert({".", ".."});
  return all;
}

int depth_by_debugfs(const std::string &image, const std::string &path) {
  const auto text = debugfs(image, "htree " + path);
  if (!text) return -1;
  const std::size_t at = text->find("Indirect levels: ");
  return at == std::string::npos ? -1 : std::atoi(text->c_str() + at + 17);
}

struct Shape {
  const char *name;
  std::uint32_t block_size;
  std::vector<std::string> mkfs;
  std::size_t names;
};

class DirectoryShapes : public ::testing::TestWithParam<Shape> {};

TEST_P(DirectoryShapes, AgreesWithAModelAndIsClean) {
  const Shape &shape = GetParam();
  std::mt19937 random(7);
  std::vector<std::string> mkfs = shape.mkfs;
  TestImage image(std::uint64_t{64} << 20, mkfs, shape.block_size);
  ASSERT_TRUE(image.open());
  LinkFarm farm(image);
  std::set<std::string> model;

  for (std::size_t i = 0; i < shape.names; ++i) {
    const std::string name = random_name(random, i, i % 100 == 0 ? 254 : 40);
    ASSERT_OK(farm.insert(name)) << i;
    model.insert(name);
    if (i % 5 == 4) {  // now and then one goes
      auto victim = model.lower_bound(std::to_string(random() % shape.names));
      if (victim == model.end()) victim = model.begin();
      ASSERT_OK(farm.remove(*victim));
      ASSERT_ERROR(farm.directory().lookup(*victim), ENOENT);
      model.erase(victim);
    }
  }
  const auto check = [&](Directory directory, InodeNumber target) {
    for (const std::string &name : model) {
      const auto match = directory.lookup(name);
      ASSERT_OK(match) << name;
      ASSERT_EQ(match->inode, target);
      ASSERT_EQ(match->file_type, 1);
    }
    for (std::size_t i = 0; i < 1000; ++i) ASSERT_ERROR(directory.lookup(numbered("absent", i)), ENOENT);
    EXPECT_EQ(directory.lookup("..")->inode, format::kRootInode);
    EXPECT_EQ(list(directory), with_dots(model));
    EXPECT_EQ(list(directory, 1), with_dots(model));
    const auto empty = directory.empty();
    ASSERT_OK(empty);
    EXPECT_EQ(*empty, model.empty());
  };
  check(farm.directory(), farm.target());
  farm.settle();
  image.close();
  image.expect_clean();
  ASSERT_TRUE(image.open());
  LinkFarm again(image, "dir", "file");
  check(again.directory(), again.target());

  // Emptied again, the directory is empty and still sound.
  for (const std::string &name : model) ASSERT_OK(again.remove(name)) << name;
  model.clear();
  check(again.directory(), again.target());
  again.settle();
  image.close();
  image.expect_clean();
}

INSTANTIATE_TEST_SUITE_P(
    , DirectoryShapes,
    ::testing::Values(Shape{"Empty", 4096, {}, 0}, Shape{"One", 1024, {}, 1}, Shape{"OneBlock", 1024, {}, 15},
                      Shape{"JustIndexed", 1024, {}, 40}, Shape{"Small1k", 1024, {}, 2000},
                      Shape{"Large1k", 1024, {}, 50000}, Shape{"Large4k", 4096, {}, 50000},
                      Shape{"Linear1k", 1024, {"-O", "^dir_index"}, 1500},
                      Shape{"NoChecksums", 1024, {"-O", "^metadata_csum"}, 20000},
                      Shape{"NoFileTypeBlockMap", 1024, {"-O", "^extents,^64bit,^flex_bg,^metadata_csum"}, 20000},
                      Shape{"LargeDir", 1024, {"-O", "large_dir"}, 20000},
                      Shape{"Blocks64k", 65536, {"-O", "^resize_inode"}, 20000}),
    [](const auto &test) { return test.param.name; });

TEST(Directory, NamesAre1To255BytesLong) {
  TestImage image(16 << 20, {}, 1024);
  ASSERT_TRUE(image.open());
  LinkFarm farm(image);
  EXPECT_ERROR(farm.insert(""), EINVAL);
  EXPECT_ERROR(farm.insert(std::string(256, 'x')), ENAMETOOLONG);
  EXPECT_ERROR(farm.directory().lookup(std::string(256, 'x')), ENAMETOOLONG);
  std::set<std::string> model;
  for (std::size_t length = 1; length <= 255; ++length) {
    model.insert(std::string(length, 'x'));
    ASSERT_OK(farm.insert(std::string(length, 'x')));
  }
  for (const std::string &name : model) EXPECT_OK(farm.directory().lookup(name));
  EXPECT_EQ(list(farm.directory()), with_dots(model));
  farm.settle();
  image.close();
  image.expect_clean();
}

// 255-byte names, three to a leaf: two levels of index nodes fill with 1k blocks, which large_dir can exceed.
TEST(Directory, TheIndexFillsAtTwoLevelsAndGrowsToThreeWithLargeDir) {
  for (const bool large : {false, true}) {
    // How full the leaves become depends on the hashes: a fixed seed makes every run the same.
    TestImage image(std::uint64_t{128} << 20,
                    {"-O", large ? "large_dir" : "^large_dir", "-m", "0", "-E", "hash_seed=01234567-89ab-cdef-0123-456789abcdef"}, 1024);
    ASSERT_TRUE(image.open());
    LinkFarm farm(image);
    std::mt19937 random(3);
    std::vector<std::string> names;
    Status status;
    while (names.size() < 50000) {
      std::string name = std::to_string(names.size()) + "-";
      while (name.size() < 255) name += static_cast<char>('a' + random() % 26);
      status = farm.insert(name);
      if (!status) break;
      names.push_back(std::move(name));
    }
    if (large) {
      EXPECT_OK(status);
    } else {
      EXPECT_ERROR(status, ENOSPC);
    }
    EXPECT_GT(names.size(), 20000u);
    for (const std::string &name : names) ASSERT_OK(farm.directory().lookup(name));
    EXPECT_EQ(list(farm.directory()), with_dots(names));
    farm.settle();
    image.close();
    image.expect_clean();
    EXPECT_EQ(depth_by_debugfs(image.path(), "/dir"), large ? 2 : 1);
  }
}

TEST(Directory, ReplacePointsElsewhereAlsoForDotDotInAnIndexRoot) {
  TestImage image(16 << 20, {}, 1024);
  ASSERT_TRUE(image.open());
  LinkFarm farm(image);
  for (std::size_t i = 0; i < 500; ++i) ASSERT_OK(farm.insert(numbered("n", i)));
  ASSERT_NE(farm.inode().fields.flags & format::kInodeFlagIndex, 0u);
  Directory directory = farm.directory();
  auto handle = farm.volume().journal().start(4);
  ASSERT_OK(handle);
  EXPECT_OK(directory.replace(*handle, "n77", InodeNumber(11), 2));
  EXPECT_OK(directory.replace(*handle, "..", InodeNumber(11), 2));
  EXPECT_ERROR(directory.replace(*handle, "absent", InodeNumber(11), 2), ENOENT);
  EXPECT_ERROR(directory.remove(*handle, "n77", InodeNumber(12)), ESTALE);
  EXPECT_EQ(directory.lookup("n77")->inode, InodeNumber(11));
  EXPECT_EQ(directory.lookup("n77")->file_type, 2);
  EXPECT_EQ(directory.lookup("..")->inode, InodeNumber(11));
  EXPECT_EQ(list(directory).size(), 502u);
  handle->finish();
}

// Entries that stay are listed exactly once however others come and go between the calls.
class DirectoryPositions : public ::testing::TestWithParam<const char *> {};

TEST_P(DirectoryPositions, HoldWhileNamesComeAndGo) {
  TestImage image(std::uint64_t{64} << 20, {"-O", GetParam()}, 1024);
  ASSERT_TRUE(image.open());
  std::mt19937 random(11);
  for (const std::size_t start : {std::size_t{5}, std::size_t{15}, std::size_t{1000}, std::size_t{5000}}) {
    SCOPED_TRACE(start);
    Inode root = image.find("");
    const std::string path = numbered("d", start);
    ASSERT_OK(names::create(image.volume(), root, path, {.mode = 0040755}));
    ASSERT_OK(names::create(image.volume(), root, numbered("f", start), {.mode = 0100644}));
    LinkFarm farm(image, path, numbered("f", start));
    std::set<std::string> stays;
    std::vector<std::string> comes_and_goes;
    for (std::size_t i = 0; i < start; ++i) {
      ASSERT_OK(farm.insert(numbered("stays", i)));
      stays.insert(numbered("stays", i));
      ASSERT_OK(farm.insert(numbered("goes", i)));
      comes_and_goes.push_back(numbered("goes", i));
    }
    std::map<std::string, int> seen;
    std::uint64_t from = 0;
    std::size_t made = start;
    for (bool more = true; more;) {
      more = false;
      int got = 0;
      ASSERT_OK(farm.directory().iterate(from, [&](std::span<const Directory::Item> items, std::uint64_t next) {
        if (got >= 7) return false;
        for (const Directory::Item &item : items) ++seen[std::string(item.name)];
        got += static_cast<int>(items.size());
        from = next;
        return more = true;
      }));
      for (int i = 0; i < 5; ++i) {
        if (!comes_and_goes.empty() && random() % 2 == 0) {
          std::swap(comes_and_goes[random() % comes_and_goes.size()], comes_and_goes.back());
          ASSERT_OK(farm.remove(comes_and_goes.back()));
          comes_and_goes.pop_back();
        } else {
          comes_and_goes.push_back(numbered("goes", made++));
          ASSERT_OK(farm.insert(comes_and_goes.back()));
        }
      }
    }
    for (const std::string &name : stays) EXPECT_EQ(seen[name], 1) << name;
    EXPECT_EQ(seen["."], 1);
    EXPECT_EQ(seen[".."], 1);
    for (const auto &[name, times] : seen) EXPECT_EQ(times, 1) << name;
    farm.settle();
  }
  image.close();
  image.expect_clean();
}

INSTANTIATE_TEST_SUITE_P(, DirectoryPositions, ::testing::Values("dir_index", "^dir_index"),
                         [](const auto &test) { return test.param[0] == '^' ? "Linear" : "Hashed"; });

// Leaves whose index entry says that they go on with the hash of the leaf before.
std::size_t continued_leaves(LinkFarm &farm) {
  DirectoryBlocks blocks(farm.volume(), farm.inode());
  auto index = HashIndex::open(blocks);
  EXPECT_TRUE(index && *index && (*index)->descend(0).value_or(false));
  std::size_t continued = 0;
  while (const auto next = (*index)->next_hash()) {
    continued += *next & 1;
    EXPECT_OK((*index)->advance());
  }
  return continued;
}

// A hash's names may be spread over several leaves: all of them are found, listed and removed.
TEST(Directory, NamesOfOneHashMaySpillIntoTheNextLeaf) {
  TestImage image(std::uint64_t{64} << 20, {}, 1024);
  ASSERT_TRUE(image.open());
  LinkFarm farm(image);
  const auto hash = htree::default_hash(farm.volume());
  ASSERT_OK(hash);
  // Pairs of one hash, found by looking at many names; long ones, so that leaves hold few and cuts fall between a pair.
  std::map<std::uint32_t, std::string> by_hash;
  std::vector<std::string> names;
  const std::string tail(200, 'z');
  for (std::size_t i = 0; i < 700000; ++i) {
    const std::string name = std::to_string(i) + tail;
    const auto [other, fresh] = by_hash.emplace((*hash)(name).major, name);
    if (fresh) continue;
    names.push_back(name);
    names.push_back(other->second);
  }
  ASSERT_GT(names.size(), 100u);
  const std::set<std::string> distinct(names.begin(), names.end());
  names.assign(distinct.begin(), distinct.end());
  std::shuffle(names.begin(), names.end(), std::mt19937(5));
  for (const std::string &name : names) ASSERT_OK(farm.insert(name));
  EXPECT_GT(continued_leaves(farm), 3u);
  for (const std::string &name : names) EXPECT_OK(farm.directory().lookup(name));
  EXPECT_EQ(list(farm.directory(), 1), with_dots(distinct));
  farm.settle();
  ASSERT_OK(farm.volume().sync());
  for (const std::string &name : distinct)
    if (name[0] % 2 == 0) {
      ASSERT_OK(farm.remove(name));
    }
  for (const std::string &name : distinct) EXPECT_EQ(farm.directory().lookup(name).has_value(), name[0] % 2 != 0);
  farm.settle();
  image.close();
  image.expect_clean();
}

}  // namespace
}  // namespace outboard::ext4
