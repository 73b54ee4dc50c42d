// Listing in pieces, as a client does: each reply has little room and the next one continues where it ended.
#include "ext4/format/dirhash.h"
#include "vfs/test_volume.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>

namespace outboard::vfs {
namespace {

struct Shape {
  const char *name;
  std::vector<std::string> mkfs;
};

// Everything from `from` on. Fails the test on an error, and when a directory does not end.
std::vector<ListingSink::Name> list(MountedVolume &volume, NodeId node, std::size_t room, std::uint64_t from = 0,
                                    bool plus = false) {
  std::vector<ListingSink::Name> all;
  for (int replies = 0; replies < 100000; ++replies) {
    ListingSink sink(room, plus);
    const Status status = volume.read_directory(node, from, plus, sink);
    EXPECT_OK(status);
    if (!status || sink.names.empty()) return all;
    from = sink.names.back().next;
    all.insert(all.end(), sink.names.begin(), sink.names.end());
  }
  ADD_FAILURE() << "the listing does not end";
  return all;
}

std::multiset<std::string> names_of(const std::vector<ListingSink::Name> &listed) {
  std::multiset<std::string> names;
  for (const auto &one : listed) names.insert(one.name);
  return names;
}

// Behind this prefix, names that all have one legacy hash: found by trying prefixes of six characters and solving for
// the last two. Long, so that few of them fill a reply.
const std::string kPrefix(240, 'x');
constexpr const char *kTails[] = {
    "ysROypbs", "J=-WYUlR", "B=k-uLgM", "lm705a93", "LLDFeuTj", ".4msrI3O", "F,iH5T1j", "GeDBOAmH",
    "rqJcj8vC", "n71t5adv", "73B45pD8", "syhf.O9K", "buR+=o6-", "AS+Tc.Wu", "rXfNJ2ys", "3XOsSHgu",
    "jwY6eUJ_", "M8uPh3yX", "dL3Ip8D7", "ZfoOXob5", "XjmsR9PQ", "VTglvz,E", "2RZgUjFo", "U8YH5lmf",
    "4Wx=Cx5i", "9zQEnVTc", "ddQI,zQj", "a8eCd7zG", "I16vtqKk", "AwDBPfO,", "XmjJPOKE", "S17Lx87f",
    "DLvI,tVv", "xcvTWs-r", "GScY814x", "7RR9iSBv", "qPXYB_Q=", "uCIJ1Zxw", "x6rufdB-", "=uM=Rzca",
};

class HashFlood : public ::testing::Test {
protected:
  void SetUp() override {
    directory_ = image_.directory("flood");
    const NodeId file = image_.file("file");
    for (const char *tail : kTails) {
      ASSERT_OK(image_->link(file, directory_, kPrefix + tail));
      names_.insert(kPrefix + tail);
    }
    // Others before and after them, and so many that the directory has an index.
    for (int i = 0; i < 200; ++i) {
      const std::string name = fmt::format("{}{}", std::string(60, 'o'), i);
      ASSERT_OK(image_->link(file, directory_, name));
      names_.insert(name);
    }
    names_.insert({".", ".."});
  }
  MountedImage image_{{}, 16, {}, {"-E", "hash_alg=legacy"}};
  NodeId directory_ = 0;
  std::multiset<std::string> names_;
};

TEST_F(HashFlood, TheNamesShareOneHash) {
  const auto hash =
      ext4::format::NameHash::of(image_->volume().superblock(), image_->volume().superblock().default_hash_version);
  ASSERT_OK(hash);
  for (const char *tail : kTails) EXPECT_EQ((*hash)(kPrefix + tail), (*hash)(kPrefix + kTails[0])) << tail;
}

TEST_F(HashFlood, NoNameIsLostOrRepeatedInSmallReplies) {
  // One page is the least that Linux asks for; 280 bytes hold one long name.
  for (const std::size_t room : {std::size_t{280}, std::size_t{600}, std::size_t{4096}, std::size_t{65536}})
    EXPECT_EQ(names_of(list(*image_, directory_, room)), names_) << room;
  EXPECT_EQ(names_of(list(*image_, directory_, 4096, 0, true)), names_);
  // Each name of the plus listing has been counted.
  for (const auto &one : list(*image_, directory_, 4096, 0, true))
    EXPECT_EQ(one.looked_up, one.name != "." && one.name != "..");
}

TEST_F(HashFlood, EveryPositionContinuesAfterItsName) {
  const auto all = list(*image_, directory_, 65536);
  ASSERT_EQ(names_of(all), names_);
  for (std::size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(all[i].next >> 63, 0u) << "lseek(2) takes no such position";
    const auto rest = list(*image_, directory_, 8192, all[i].next);
    ASSERT_EQ(rest.size(), all.size() - i - 1);
    for (std::size_t j = 0; j < rest.size(); ++j) ASSERT_EQ(rest[j].name, all[i + 1 + j].name);
  }
}

TEST_F(HashFlood, NamesThatComeAndGoMoveNoOthers) {
  // Between two replies one flooding name goes and comes again, and another takes its place for a while.
  std::multiset<std::string> seen;
  std::uint64_t from = 0;
  for (int round = 0;; ++round) {
    ListingSink sink(600);
    ASSERT_OK(image_->read_directory(directory_, from, false, sink));
    if (sink.names.empty()) break;
    from = sink.names.back().next;
    for (const auto &one : sink.names) seen.insert(one.name);
    const std::string moving = kPrefix + kTails[0];
    const NodeId file = image_.peek(kRootNode, "file")->node;
    if (round % 2 == 0) {
      ASSERT_OK(image_->unlink(directory_, moving));
    } else {
      ASSERT_OK(image_->link(file, directory_, moving));
    }
  }
  seen.erase(kPrefix + kTails[0]);
  names_.erase(kPrefix + kTails[0]);
  EXPECT_EQ(seen, names_);
}

TEST_F(HashFlood, TheNamesAreFoundAndTheImageIsClean) {
  for (const char *tail : kTails) EXPECT_OK(image_.peek(directory_, kPrefix + tail));
  image_.unmount();
  image_.mount();
  EXPECT_EQ(names_of(list(*image_, image_.peek(kRootNode, "flood")->node, 4096)), names_);
  image_.unmount();
}

class Listing : public ::testing::TestWithParam<Shape> {};

TEST_P(Listing, EveryNameOnceWhateverTheRoom) {
  MountedImage image(GetParam().mkfs);
  const NodeId directory = image.directory("d"), file = image.file("file");
  std::multiset<std::string> names = {".", ".."};
  for (int i = 0; i < 500; ++i) {
    const std::string name = fmt::format("{:0{}}", i, 4 + i % 200);
    ASSERT_OK(image->link(file, directory, name));
    names.insert(name);
    // While it is one block, and after it has grown.
    if (i == 3 || i == 499) {
      for (const std::size_t room : {std::size_t{240}, std::size_t{1000}, std::size_t{1} << 20})
        EXPECT_EQ(names_of(list(*image, directory, room)), names) << i << " names, room " << room;
    }
  }
  image.unmount();
}

TEST_P(Listing, PositionsStayGoodWhileTheDirectoryGrows) {
  MountedImage image(GetParam().mkfs);
  const NodeId directory = image.directory("d"), file = image.file("file");
  std::set<std::string> early;
  for (int i = 0; i < 20; ++i) {
    const std::string name = fmt::format("early{}", i);
    ASSERT_OK(image->link(file, directory, name));
    early.insert(name);
  }
  std::multiset<std::string> seen;
  std::uint64_t from = 0;
  for (int round = 0;; ++round) {
    ListingSink sink(200);
    ASSERT_OK(image->read_directory(directory, from, false, sink));
    if (sink.names.empty()) break;
    from = sink.names.back().next;
    for (const auto &one : sink.names) seen.insert(one.name);
    // A linear directory is read in the order of growth: it ends when nothing is added any more.
    for (int i = 0; round < 30 && i < 10; ++i)
      ASSERT_OK(image->link(file, directory, fmt::format("late{}-{}{}", round, i, std::string(100, 'l'))));
  }
  for (const std::string &name : early) EXPECT_EQ(seen.count(name), 1u) << name;
  for (const std::string &name : seen) EXPECT_EQ(seen.count(name), 1u) << name;
  image.unmount();
}

INSTANTIATE_TEST_SUITE_P(Orders, Listing, ::testing::Values(Shape{"Hashed", {}}, Shape{"Linear", {"-O", "^dir_index"}}),
                         [](const auto &param) { return param.param.name; });

TEST(ListingEdge, NoRoomForOneEntryIsEINVALNotTheEnd) {
  MountedImage image;
  ListingSink sink(8);
  EXPECT_ERROR(image->read_directory(kRootNode, 0, false, sink), EINVAL);
  // At the end there is nothing that would not fit.
  const auto all = list(*image, kRootNode, 4096);
  ASSERT_FALSE(all.empty());
  ListingSink nothing(8);
  EXPECT_OK(image->read_directory(kRootNode, all.back().next, false, nothing));
  EXPECT_TRUE(nothing.names.empty());
  EXPECT_ERROR(image->read_directory(image.file("f"), 0, false, nothing), ENOTDIR);
}

TEST(ListingEdge, OnlyEntriesThatGoOutAreCounted) {
  MountedImage image;
  std::map<std::string, NodeId> nodes;
  for (int i = 0; i < 6; ++i) {
    const std::string name = fmt::format("f{}", i);
    nodes[name] = image.file(name);
    image->forget(nodes[name], 1);
  }
  ListingSink sink(65536, true);
  sink.refuse_after = 5;
  ASSERT_OK(image->read_directory(kRootNode, 0, true, sink));
  ASSERT_EQ(sink.names.size(), 5u);
  std::set<std::string> counted;
  for (const auto &one : sink.names)
    if (one.looked_up) counted.insert(one.name);
  for (const auto &[name, node] : nodes) {
    ASSERT_OK(image->unlink(kRootNode, name));
    if (counted.contains(name)) {
      EXPECT_EQ(image.attributes(node).links, 0u) << name;
      image->forget(node, 1);
    }
    EXPECT_TRUE(eventually([&, n = node] { return image.gone(n); })) << name;
  }
  image.unmount();
}

TEST(ListingEdge, ARemovedDirectoryIsEmpty) {
  MountedImage image;
  const NodeId directory = image.directory("d");
  ASSERT_OK(image->remove_directory(kRootNode, "d"));
  EXPECT_TRUE(list(*image, directory, 4096).empty());
  image.unmount();
}

}  // namespace
}  // namespace outboard::vfs
