// Every operation without a kernel: message in, message out.
#include "fuse/dispatcher.h"

#include "fuse/directory_reply.h"
#include "fuse/encoding.h"
#include "fuse/memory_filesystem.h"
#include "fuse/message_builder.h"
#include "fuse/operation_table.h"
#include "testing/expect.h"
#include "vfs/control.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <set>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace outboard::fuse::testing {
namespace {

using enum wire::Opcode;

class DispatcherTest : public ::testing::Test {
protected:
  Answer ask(wire::Opcode opcode, std::uint64_t node, const Bytes &body = {}, std::uint32_t uid = 0) {
    Result<Answer> answer = testing::ask(dispatcher, message(opcode, node, body, uid));
    EXPECT_TRUE(answer.has_value());
    if (!answer) return {};
    if (answer->header) {
      EXPECT_EQ(answer->header->unique, 77u);
      EXPECT_EQ(answer->header->length, sizeof(wire::OutHeader) + answer->payload.size());
      if (answer->header->error != 0) {
        EXPECT_TRUE(answer->payload.empty());
      }
    }
    return *answer;
  }
  wire::EntryOut create_file(std::string_view name, std::uint32_t mode = 0644, std::uint32_t umask = 022) {
    const Answer answer =
        ask(create, 1, bytes_of(wire::CreateIn{.flags = O_RDWR, .mode = mode, .umask = umask}) + name_bytes(name), 7);
    EXPECT_EQ(answer.error(), 0);
    EXPECT_EQ(answer.payload.size(), sizeof(wire::EntryOut) + sizeof(wire::OpenOut));
    return answer.as<wire::EntryOut>();
  }
  Answer write_at(std::uint64_t node, std::uint64_t offset, std::string_view text, std::uint32_t flags = 0) {
    Bytes data(text.size());
    std::memcpy(data.data(), text.data(), text.size());
    return ask(write, node,
               bytes_of(wire::WriteIn{
                   .offset = offset, .size = static_cast<std::uint32_t>(text.size()), .write_flags = flags}) +
                   data);
  }
  Answer read_at(std::uint64_t node, std::uint64_t offset, std::uint32_t size) {
    return ask(read, node, bytes_of(wire::ReadIn{.offset = offset, .size = size}));
  }

  Controls controls{};
  MemoryFilesystem filesystem{controls};
  Dispatcher dispatcher{filesystem, {.owner_uid = 1000}};
};

TEST_F(DispatcherTest, LookupGivesEntriesAnUnlimitedLifetime) {
  const wire::EntryOut made = create_file("file");
  const wire::EntryOut found = ask(lookup, 1, name_bytes("file")).as<wire::EntryOut>();
  EXPECT_EQ(found.node, made.node);
  EXPECT_EQ(found.entry_valid, kForever);
  EXPECT_EQ(found.attr_valid, kForever);
  EXPECT_EQ(found.attr.mode, S_IFREG | 0644u);
  EXPECT_EQ(found.attr.uid, 7u);
  EXPECT_EQ(controls.lookup_counts, 2u);
}

TEST_F(DispatcherTest, AbsenceIsAnEntryToRemember) {
  const Answer answer = ask(lookup, 1, name_bytes("nothing"));
  EXPECT_EQ(answer.error(), 0);
  EXPECT_EQ(answer.as<wire::EntryOut>().node, 0u);
  EXPECT_EQ(answer.as<wire::EntryOut>().entry_valid, kForever);
}

TEST_F(DispatcherTest, NothingIsRememberedWhereSeveralNamesFindOneEntry) {
  filesystem.names_fold = true;
  EXPECT_EQ(ask(lookup, 1, name_bytes("nothing")).error(), ENOENT);
  const wire::EntryOut made = create_file("file");
  EXPECT_EQ(made.entry_valid, 0u);
  EXPECT_EQ(made.attr_valid, kForever);
}

TEST_F(DispatcherTest, LookupOfDotsFindsTheDirectoryAndItsParent) {
  const auto made = ask(mkdir, 1, bytes_of(wire::MkdirIn{.mode = 0755, .umask = 0}) + name_bytes("d"));
  const std::uint64_t node = made.as<wire::EntryOut>().node;
  EXPECT_EQ(ask(lookup, node, name_bytes(".")).as<wire::EntryOut>().node, node);
  EXPECT_EQ(ask(lookup, node, name_bytes("..")).as<wire::EntryOut>().node, 1u);
}

TEST_F(DispatcherTest, NamesAboveTheLimitAreTooLong) {
  const std::string longest(255, 'n'), longer(256, 'n');
  EXPECT_NE(create_file(longest).node, 0u);
  EXPECT_EQ(ask(lookup, 1, name_bytes(longer)).error(), ENAMETOOLONG);
  EXPECT_EQ(ask(create, 1, bytes_of(wire::CreateIn{}) + name_bytes(longer)).error(), ENAMETOOLONG);
  EXPECT_EQ(ask(mkdir, 1, bytes_of(wire::MkdirIn{}) + name_bytes(longer)).error(), ENAMETOOLONG);
  EXPECT_EQ(ask(mknod, 1, bytes_of(wire::MknodIn{}) + name_bytes(longer)).error(), ENAMETOOLONG);
  EXPECT_EQ(ask(symlink, 1, name_bytes(longer) + name_bytes("t")).error(), ENAMETOOLONG);
  EXPECT_EQ(ask(unlink, 1, name_bytes(longer)).error(), ENAMETOOLONG);
  EXPECT_EQ(ask(rmdir, 1, name_bytes(longer)).error(), ENAMETOOLONG);
  EXPECT_EQ(ask(rename2, 1, bytes_of(wire::Rename2In{.new_parent = 1}) + name_bytes("a") + name_bytes(longer)).error(),
            ENAMETOOLONG);
  EXPECT_EQ(ask(link, 1, bytes_of(wire::LinkIn{.node = 3}) + name_bytes(longer)).error(), ENAMETOOLONG);
}

TEST_F(DispatcherTest, NamesThatCannotBeAreRefused) {
  for (std::string_view name : {".", "..", "a/b"}) {
    EXPECT_EQ(ask(mkdir, 1, bytes_of(wire::MkdirIn{}) + name_bytes(name)).error(), EINVAL) << name;
    EXPECT_EQ(ask(unlink, 1, name_bytes(name)).error(), EINVAL) << name;
  }
  EXPECT_EQ(ask(lookup, 1, name_bytes("")).error(), EINVAL);
  EXPECT_EQ(ask(lookup, 1).error(), EINVAL);
}

TEST_F(DispatcherTest, CreateAppliesTheCallersMask) {
  EXPECT_EQ(create_file("a", 0666, 027).attr.mode, S_IFREG | 0640u);
  const auto directory =
      ask(mkdir, 1, bytes_of(wire::MkdirIn{.mode = 0777, .umask = 077}) + name_bytes("d")).as<wire::EntryOut>();
  EXPECT_EQ(directory.attr.mode, S_IFDIR | 0700u);
}

TEST_F(DispatcherTest, CreateOfWhatExistsOpensItUnlessExclusive) {
  const wire::EntryOut made = create_file("file");
  EXPECT_EQ(create_file("file").node, made.node);
  EXPECT_EQ(ask(create, 1, bytes_of(wire::CreateIn{.flags = O_EXCL, .mode = 0644}) + name_bytes("file")).error(),
            EEXIST);
}

TEST_F(DispatcherTest, DeviceNumbersKeepAllTheirBits) {
  const std::uint32_t device_major = 0xABC, device_minor = 0x12345;
  const std::uint32_t packed = pack_device(device_major, device_minor);
  EXPECT_EQ(makedev_from_packed(packed), makedev(device_major, device_minor));
  const auto entry = ask(mknod, 1, bytes_of(wire::MknodIn{.mode = S_IFBLK | 0600, .device = packed}) + name_bytes("b"))
                         .as<wire::EntryOut>();
  EXPECT_EQ(entry.attr.device, packed);
}

TEST_F(DispatcherTest, SymlinksLinksAndRenames) {
  const auto symbolic = ask(symlink, 1, name_bytes("s") + name_bytes("the/target")).as<wire::EntryOut>();
  EXPECT_EQ(ask(readlink, symbolic.node).text(), "the/target");
  const wire::EntryOut file = create_file("a");
  EXPECT_EQ(ask(link, 1, bytes_of(wire::LinkIn{.node = file.node}) + name_bytes("b")).as<wire::EntryOut>().attr.links,
            2u);
  EXPECT_EQ(ask(rename, 1, bytes_of(wire::RenameIn{.new_parent = 1}) + name_bytes("b") + name_bytes("c")).error(), 0);
  EXPECT_EQ(
      ask(rename2, 1,
          bytes_of(wire::Rename2In{.new_parent = 1, .flags = RENAME_NOREPLACE}) + name_bytes("a") + name_bytes("c"))
          .error(),
      EEXIST);
  EXPECT_EQ(ask(unlink, 1, name_bytes("c")).error(), 0);
  EXPECT_EQ(ask(unlink, 1, name_bytes("c")).error(), ENOENT);
  EXPECT_EQ(ask(rmdir, 1, name_bytes("a")).error(), ENOTDIR);
}

TEST_F(DispatcherTest, ReadsAndWritesCarryData) {
  const std::uint64_t node = create_file("f").node;
  const Answer written = write_at(node, 4090, "across a block");
  EXPECT_EQ(written.as<wire::WriteOut>().size, 14u);
  EXPECT_EQ(read_at(node, 4090, 100).text(), "across a block");
  EXPECT_EQ(read_at(node, 4090, 6).text(), "across");
  EXPECT_EQ(read_at(node, 5000, 10).payload.size(), 0u);
  EXPECT_EQ(read_at(node, 0, 1 << 30).error(), EINVAL);
  EXPECT_EQ(read_at(node, ~0ull, 10).error(), EINVAL);
  EXPECT_EQ(read_at(node, INT64_MAX, 10).error(), EFBIG);
}

// The kernel's write-back takes any successful answer for the whole: a short count there would be lost bytes.
TEST_F(DispatcherTest, ShortWritesFromTheClientsCacheAreErrors) {
  const std::uint64_t node = create_file("f").node;
  controls.room = 100;
  const std::string text(150, 'x');
  EXPECT_EQ(write_at(node, 0, text).as<wire::WriteOut>().size, 100u);
  EXPECT_EQ(write_at(node, 0, text, wire::kWriteCache).error(), ENOSPC);
  EXPECT_EQ(write_at(node, 0, text.substr(0, 100), wire::kWriteCache).as<wire::WriteOut>().size, 100u);
}

TEST_F(DispatcherTest, WriteThatClaimsMoreDataThanItHasIsRefused) {
  const std::uint64_t node = create_file("f").node;
  const Bytes lie = bytes_of(wire::WriteIn{.offset = 0, .size = 100}) + Bytes(99);
  EXPECT_EQ(ask(write, node, lie).error(), EINVAL);
  EXPECT_EQ(controls.writes, 0u);
}

TEST_F(DispatcherTest, SetattrChangesOnlyWhatIsValid) {
  const std::uint64_t node = create_file("f", 06755).node;
  wire::SetattrIn in{};
  in.valid = wire::setattr_valid::size | wire::setattr_valid::mtime | wire::setattr_valid::kill_suidgid;
  in.size = 10000;
  in.mtime = static_cast<std::uint64_t>(-5);
  in.mtime_nsec = 999'999'999;
  in.mode = 0777;
  in.uid = 99;
  const auto out = ask(setattr, node, bytes_of(in)).as<wire::AttrOut>();
  EXPECT_EQ(out.attr.size, 10000u);
  EXPECT_EQ(static_cast<std::int64_t>(out.attr.mtime), -5);
  EXPECT_EQ(out.attr.mtime_nsec, 999'999'999u);
  EXPECT_EQ(out.attr.mode, S_IFREG | 0755u);
  EXPECT_EQ(out.attr.uid, 7u);
  EXPECT_EQ(out.attr_valid, kForever);
  in.mtime_nsec = 1'000'000'000;
  EXPECT_EQ(ask(setattr, node, bytes_of(in)).error(), EINVAL);
}

TEST_F(DispatcherTest, StatxShowsTheBirthTime) {
  const std::uint64_t node = create_file("f").node;
  const auto out = ask(statx, node, bytes_of(wire::StatxIn{.mask = STATX_BTIME})).as<wire::StatxOut>();
  EXPECT_NE(out.stat.mask & STATX_BTIME, 0u);
  EXPECT_GT(out.stat.btime.seconds, 1'600'000'000);
  EXPECT_EQ(out.stat.inode, node);
  EXPECT_EQ(ask(getattr, node, bytes_of(wire::GetattrIn{})).as<wire::AttrOut>().attr.inode, node);
}

TEST_F(DispatcherTest, XattrsAskForSizesFirst) {
  const std::uint64_t node = create_file("f").node;
  const Bytes value(5, std::byte{'v'});
  EXPECT_EQ(ask(setxattr, node, bytes_of(wire::SetxattrIn{.size = 5}) + name_bytes("user.x") + value).error(), 0);
  EXPECT_EQ(
      ask(getxattr, node, bytes_of(wire::GetxattrIn{.size = 0}) + name_bytes("user.x")).as<wire::GetxattrOut>().size,
      5u);
  EXPECT_EQ(ask(getxattr, node, bytes_of(wire::GetxattrIn{.size = 100}) + name_bytes("user.x")).text(), "vvvvv");
  EXPECT_EQ(ask(getxattr, node, bytes_of(wire::GetxattrIn{.size = 4}) + name_bytes("user.x")).error(), ERANGE);
  EXPECT_EQ(ask(getxattr, node, bytes_of(wire::GetxattrIn{.size = 4}) + name_bytes("user.y")).error(), ENODATA);
  EXPECT_EQ(ask(listxattr, node, bytes_of(wire::GetxattrIn{.size = 0})).as<wire::GetxattrOut>().size, 7u);
  EXPECT_EQ(ask(listxattr, node, bytes_of(wire::GetxattrIn{.size = 100})).text(), std::string_view("user.x\0", 7));
  EXPECT_EQ(ask(removexattr, node, name_bytes("user.x")).error(), 0);
  EXPECT_EQ(ask(removexattr, node, name_bytes("user.x")).error(), ENODATA);
  EXPECT_EQ(
      ask(setxattr, node, bytes_of(wire::SetxattrIn{.size = 5}) + name_bytes(std::string(256, 'x')) + value).error(),
      ERANGE);
}

TEST_F(DispatcherTest, SetxattrOfOlderKernelsIsShorter) {
  Dispatcher older(filesystem, {.short_setxattr = true});
  const std::uint64_t node = create_file("f").node;
  Bytes body = bytes_of(wire::SetxattrIn{.size = 1});
  body.resize(wire::kSetxattrInShort);
  body = body + name_bytes("user.x") + Bytes(1, std::byte{'v'});
  ASSIGN_OK(const Answer answer, testing::ask(older, message(setxattr, node, body)));
  EXPECT_EQ(answer.error(), 0);
  EXPECT_EQ(ask(getxattr, node, bytes_of(wire::GetxattrIn{.size = 9}) + name_bytes("user.x")).text(), "v");
}

TEST_F(DispatcherTest, AclWriterOutsideTheGroupLosesSetgid) {
  const std::uint64_t node = create_file("f", 02755).node;
  const wire::SetxattrIn in{.size = 1, .flags = 0, .setxattr_flags = wire::kSetxattrAclKillSgid, .padding = 0};
  EXPECT_EQ(ask(setxattr, node, bytes_of(in) + name_bytes("system.posix_acl_access") + Bytes(1)).error(), 0);
  EXPECT_EQ(ask(getattr, node, bytes_of(wire::GetattrIn{})).as<wire::AttrOut>().attr.mode, S_IFREG | 0755u);
}

// Names of the records of a READDIR(PLUS) reply, each with its node (plus) or 0; `next` becomes the last one's offset.
std::vector<std::pair<std::string, std::uint64_t>> records(const Answer &answer, bool plus, std::uint64_t &next) {
  std::vector<std::pair<std::string, std::uint64_t>> result;
  std::span<const std::byte> rest = answer.payload;
  while (!rest.empty()) {
    wire::DirentPlus record{};
    const std::size_t header = plus ? sizeof record : sizeof record.dirent;
    if (rest.size() < header) {
      ADD_FAILURE() << "half a record";
      break;
    }
    std::memcpy(plus ? static_cast<void *>(&record) : &record.dirent, rest.data(), header);
    const std::size_t size = wire::record_size(header, record.dirent.name_length);
    if (rest.size() < size) {
      ADD_FAILURE() << "half a name";
      break;
    }
    result.emplace_back(std::string(reinterpret_cast<const char *>(rest.data() + header), record.dirent.name_length),
                        record.entry.node);
    next = record.dirent.next;
    rest = rest.subspan(size);
  }
  return result;
}

class ListingTest : public DispatcherTest, public ::testing::WithParamInterface<bool> {};

TEST_P(ListingTest, GoesOnWhereTheLastReplyEnded) {
  const bool plus = GetParam();
  std::set<std::string> expected{".", ".."};
  for (int i = 0; i < 300; ++i) {
    const std::string name = "entry" + std::string(static_cast<std::size_t>(i % 50), 'x') + std::to_string(i);
    create_file(name);
    expected.insert(name);
  }
  const std::uint64_t counts = controls.lookup_counts;
  std::set<std::string> seen;
  std::uint64_t next = 0, given = 0;
  for (;;) {
    const Answer answer = ask(plus ? readdirplus : readdir, 1, bytes_of(wire::ReadIn{.offset = next, .size = 1000}));
    ASSERT_EQ(answer.error(), 0);
    ASSERT_LE(answer.payload.size(), 1000u);
    const auto part = records(answer, plus, next);
    if (part.empty()) break;
    for (const auto &[name, node] : part) {
      EXPECT_TRUE(seen.insert(name).second) << name;
      given += node != 0;
    }
  }
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(given, plus ? 300u : 0u);
  EXPECT_EQ(controls.lookup_counts - counts, given);
}

INSTANTIATE_TEST_SUITE_P(PlainAndPlus, ListingTest, ::testing::Bool());

TEST_F(DispatcherTest, UndeliveredRepliesTakeTheirLookupCountsBack) {
  for (int i = 0; i < 20; ++i) create_file("entry" + std::to_string(i));
  const std::uint64_t counts = controls.lookup_counts;
  const auto lose = [&](const Bytes &bytes) {
    ASSIGN_OK(Request request, split_message(bytes));
    Bytes room(1 << 16);
    Reply reply(room);
    dispatcher.dispatch(request, reply);
    EXPECT_GT(controls.lookup_counts, counts);
    dispatcher.undelivered(request, reply);
    EXPECT_EQ(controls.lookup_counts, counts);
  };
  lose(message(lookup, 1, name_bytes("entry3")));
  lose(message(readdirplus, 1, bytes_of(wire::ReadIn{.size = 60000})));
  lose(message(create, 1, bytes_of(wire::CreateIn{.mode = 0644}) + name_bytes("new")));
  lose(message(tmpfile, 1, bytes_of(wire::CreateIn{.mode = 0644}) + name_bytes("#1")));
}

TEST_F(DispatcherTest, ForgetsAreNeverAnswered) {
  const std::uint64_t node = create_file("f").node;
  ask(lookup, 1, name_bytes("f"));
  EXPECT_EQ(controls.lookup_counts, 2u);
  EXPECT_FALSE(ask(forget, node, bytes_of(wire::ForgetIn{.lookups = 1})).header);
  EXPECT_EQ(controls.lookup_counts, 1u);
  const Bytes batch = bytes_of(wire::BatchForgetIn{.count = 1000000}) + bytes_of(wire::ForgetOne{node, 1});
  EXPECT_FALSE(ask(batch_forget, 0, batch).header);
  EXPECT_EQ(controls.lookup_counts, 0u);
  EXPECT_FALSE(ask(forget, node).header);
  EXPECT_FALSE(ask(interrupt, 0, Bytes(8)).header);
  EXPECT_FALSE(ask(notify_reply, 0, Bytes(40)).header);
}

TEST_F(DispatcherTest, OpensAndLocksAreLeftToTheKernel) {
  for (const wire::Opcode opcode : {open, opendir, flush, access, poll, getlk, setlk, setlkw, setupmapping,
                                    removemapping, init, static_cast<wire::Opcode>(54), static_cast<wire::Opcode>(0),
                                    static_cast<wire::Opcode>(4096), static_cast<wire::Opcode>(0xFFFFFFFF)})
    EXPECT_EQ(ask(opcode, 1, Bytes(64)).error(), ENOSYS) << static_cast<unsigned>(opcode);
  EXPECT_EQ(ask(release, 1, Bytes(24)).error(), 0);
  EXPECT_EQ(ask(releasedir, 1, Bytes(24)).error(), 0);
}

TEST_F(DispatcherTest, SpaceOperations) {
  const std::uint64_t node = create_file("f").node;
  write_at(node, 8192, "data");
  const auto at = [&](std::uint64_t offset, std::uint32_t whence) {
    return ask(lseek, node, bytes_of(wire::LseekIn{.offset = offset, .whence = whence}));
  };
  EXPECT_EQ(at(0, SEEK_DATA).as<wire::LseekOut>().offset, 8192u);
  EXPECT_EQ(at(0, SEEK_HOLE).as<wire::LseekOut>().offset, 0u);
  EXPECT_EQ(at(8192, SEEK_HOLE).as<wire::LseekOut>().offset, 8196u);
  EXPECT_EQ(at(9000, SEEK_DATA).error(), ENXIO);
  EXPECT_EQ(at(0, SEEK_SET).error(), EINVAL);
  EXPECT_EQ(ask(fallocate, node, bytes_of(wire::FallocateIn{.offset = 0, .length = 20000})).error(), 0);
  EXPECT_EQ(ask(fallocate, node, bytes_of(wire::FallocateIn{.offset = 0, .length = 0})).error(), EINVAL);
  EXPECT_EQ(ask(fallocate, node, bytes_of(wire::FallocateIn{.offset = 1, .length = INT64_MAX})).error(), EFBIG);
  EXPECT_EQ(at(0, SEEK_HOLE).as<wire::LseekOut>().offset, 20000u);
  EXPECT_EQ(ask(bmap, node, bytes_of(wire::BmapIn{.block = 1, .block_size = 4096})).as<wire::BmapOut>().block,
            node * 1000 + 1);
  EXPECT_EQ(ask(bmap, node, bytes_of(wire::BmapIn{.block = 1, .block_size = 0})).error(), EINVAL);
}

TEST_F(DispatcherTest, CopiesBetweenFilesInBothForms) {
  const std::uint64_t from = create_file("from").node, to = create_file("to").node;
  write_at(from, 0, "0123456789");
  wire::CopyFileRangeIn in{.offset_in = 2, .node_out = to, .offset_out = 1, .length = 5};
  EXPECT_EQ(ask(copy_file_range, from, bytes_of(in)).as<wire::WriteOut>().size, 5u);
  EXPECT_EQ(read_at(to, 0, 100).text(), std::string_view("\00023456", 6));
  in.length = 1ull << 40;
  EXPECT_EQ(ask(copy_file_range_64, from, bytes_of(in)).as<wire::CopyFileRangeOut>().copied, 8u);
  in.flags = 1;
  EXPECT_EQ(ask(copy_file_range_64, from, bytes_of(in)).error(), EINVAL);
  in = {.offset_in = INT64_MAX, .node_out = to, .length = 1};
  EXPECT_EQ(ask(copy_file_range, from, bytes_of(in)).error(), EFBIG);
}

TEST_F(DispatcherTest, SyncsReachTheFilesystem) {
  const std::uint64_t node = create_file("f").node;
  EXPECT_EQ(ask(fsync, node, bytes_of(wire::FsyncIn{})).error(), 0);
  EXPECT_EQ(ask(fsyncdir, 1, bytes_of(wire::FsyncIn{})).error(), 0);
  EXPECT_EQ(ask(syncfs, 1, bytes_of(wire::SyncfsIn{})).error(), 0);
  EXPECT_EQ(controls.syncs, 2u);
  EXPECT_EQ(controls.sync_alls, 1u);
  EXPECT_EQ(ask(destroy, 0).error(), 0);
  EXPECT_EQ(controls.unmounts, 1u);
}

TEST_F(DispatcherTest, StatfsShowsTheNumbers) {
  const auto out = ask(statfs, 1).as<wire::StatfsOut>();
  EXPECT_EQ(out.blocks, 1000u);
  EXPECT_EQ(out.available_blocks, 500u);
  EXPECT_EQ(out.name_max, 255u);
  EXPECT_EQ(out.fragment_size, 4096u);
}

Bytes ioctl_body(std::uint32_t command, std::uint32_t out_size, const Bytes &in = {}) {
  return bytes_of(wire::IoctlIn{
             .command = command, .in_size = static_cast<std::uint32_t>(in.size()), .out_size = out_size}) +
         in;
}

TEST_F(DispatcherTest, IoctlsCarryTheirData) {
  filesystem.question = [] { return 4711u; };
  const Answer answer = ask(ioctl, 1, ioctl_body(MemoryFilesystem::kAsk, 8));
  ASSERT_EQ(answer.payload.size(), sizeof(wire::IoctlOut) + 8);
  std::uint64_t value = 0;
  std::memcpy(&value, answer.payload.data() + sizeof(wire::IoctlOut), 8);
  EXPECT_EQ(value, 4711u);
  EXPECT_EQ(ask(ioctl, 1, ioctl_body(12345, 0)).error(), ENOTTY);
  Bytes lie = ioctl_body(MemoryFilesystem::kAsk, 8, Bytes(8));
  lie.pop_back();
  EXPECT_EQ(ask(ioctl, 1, lie).error(), EINVAL);
}

TEST_F(DispatcherTest, RequestsAreCountedByOpcodeWhateverBecomesOfThem) {
  const auto counted = [&] {
    const Answer answer = ask(ioctl, 1, ioctl_body(vfs::kControlRequests, sizeof(vfs::ControlRequests)));
    vfs::ControlRequests requests{};
    EXPECT_EQ(answer.payload.size(), sizeof(wire::IoctlOut) + sizeof requests);
    if (answer.payload.size() == sizeof(wire::IoctlOut) + sizeof requests)
      std::memcpy(&requests, answer.payload.data() + sizeof(wire::IoctlOut), sizeof requests);
    return requests;
  };
  const auto at = [](const vfs::ControlRequests &requests, wire::Opcode opcode) {
    return requests.received[static_cast<std::size_t>(opcode)];
  };
  const vfs::ControlRequests before = counted();
  EXPECT_EQ(at(before, ioctl), 1u);
  create_file("f");
  EXPECT_NE(ask(wire::Opcode::fallocate, 1, {}).error(), 0);  // too short for its structure
  EXPECT_EQ(ask(static_cast<wire::Opcode>(4000), 1, {}).error(), ENOSYS);
  const vfs::ControlRequests after = counted();
  EXPECT_EQ(at(after, wire::Opcode::create), at(before, wire::Opcode::create) + 1);
  EXPECT_EQ(at(after, wire::Opcode::fallocate), 1u);
  EXPECT_EQ(at(after, wire::Opcode::fsync), 0u);
  EXPECT_EQ(at(after, ioctl), 2u);
  EXPECT_EQ(after.received[0], 1u);
}

TEST_F(DispatcherTest, ControlIoctlsAreForRootAndTheOwnerOnTheRootOnly) {
  EXPECT_EQ(ask(ioctl, 1, ioctl_body(vfs::kControlSync, 0), 0).error(), 0);
  EXPECT_EQ(ask(ioctl, 1, ioctl_body(vfs::kControlSync, 0), 1000).error(), 0);
  EXPECT_EQ(controls.sync_alls, 2u);
  EXPECT_EQ(ask(ioctl, 1, ioctl_body(vfs::kControlSync, 0), 1001).error(), EPERM);
  EXPECT_EQ(ask(ioctl, create_file("f").node, ioctl_body(vfs::kControlSync, 0), 0).error(), ENOTTY);
  EXPECT_EQ(controls.sync_alls, 2u);
  const Answer answer = ask(ioctl, 1, ioctl_body(vfs::kControlIdentify, sizeof(vfs::ControlIdentity)));
  vfs::ControlIdentity identity;
  ASSERT_EQ(answer.payload.size(), sizeof(wire::IoctlOut) + sizeof identity);
  std::memcpy(&identity, answer.payload.data() + sizeof(wire::IoctlOut), sizeof identity);
  EXPECT_EQ(std::string_view(identity.program, 8), "outboard");
  EXPECT_EQ(identity.server_pid, static_cast<std::uint32_t>(::getpid()));
}

TEST_F(DispatcherTest, OnlyQuestionsAboutPlacementNeedWriteBack) {
  const auto needs = [](Dispatcher &d, const Bytes &bytes) {
    return d.needs_write_back(*split_message(bytes)).has_value();
  };
  const Bytes data = message(lseek, 3, bytes_of(wire::LseekIn{.whence = SEEK_DATA}));
  EXPECT_TRUE(needs(dispatcher, data));
  EXPECT_TRUE(needs(dispatcher, message(bmap, 3, bytes_of(wire::BmapIn{}))));
  const Bytes later = message(bmap, 3, bytes_of(wire::BmapIn{.block = 5, .block_size = 4096}));
  EXPECT_EQ(dispatcher.needs_write_back(*split_message(later)), 5u * 4096);
  EXPECT_FALSE(needs(dispatcher, message(bmap, 3, bytes_of(wire::BmapIn{.block = ~0ull, .block_size = 4096}))));
  EXPECT_FALSE(needs(dispatcher, message(lseek, 3, bytes_of(wire::LseekIn{.offset = ~0ull, .whence = SEEK_DATA}))));
  EXPECT_FALSE(needs(dispatcher, message(lseek, 3, bytes_of(wire::LseekIn{.whence = SEEK_SET}))));
  EXPECT_FALSE(needs(dispatcher, message(copy_file_range, 3, bytes_of(wire::CopyFileRangeIn{}))));
  EXPECT_FALSE(needs(dispatcher, message(lseek, 3)));
  Dispatcher read_only(filesystem, {.read_only = true});
  EXPECT_FALSE(needs(read_only, data));
}

// --- messages that cannot be ---------------------------------------------------------------------------------------

TEST_F(DispatcherTest, MessagesWithoutAHeaderAreNotAnswered) {
  const Bytes whole = message(lookup, 1, name_bytes("x"));
  for (std::size_t size = 0; size < whole.size(); ++size)  // its length field says more
    EXPECT_FALSE(testing::ask(dispatcher, Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))));
  Bytes more = whole;
  more.push_back(std::byte{0});
  EXPECT_FALSE(testing::ask(dispatcher, more));
}

TEST_F(DispatcherTest, ExtensionsAreNoPartOfTheRequest) {
  Bytes bytes = message(lookup, 1, name_bytes("x") + Bytes(16, std::byte{0xFF}));
  wire::InHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  header.extensions = 2;
  std::memcpy(bytes.data(), &header, sizeof header);
  ASSIGN_OK(const Answer answer, testing::ask(dispatcher, bytes));
  EXPECT_EQ(answer.error(), 0);
  header.extensions = 3;
  std::memcpy(bytes.data(), &header, sizeof header);
  EXPECT_FALSE(testing::ask(dispatcher, bytes));
}

// Each operation with its message cut off at each length, in a buffer of exactly that length (sanitizers watch its
// end).
TEST_F(DispatcherTest, EveryOperationSurvivesTruncation) {
  create_file("file");
  for (std::uint32_t opcode = 0; opcode < kOperationCount + 4; ++opcode) {
    if (opcode == static_cast<std::uint32_t>(destroy)) continue;
    const std::size_t full = operation(static_cast<wire::Opcode>(opcode)).fixed + 16;
    for (std::size_t size = 0; size <= full; ++size) {
      for (const std::byte fill : {std::byte{0}, std::byte{1}, std::byte{0xFF}}) {
        const Result<Answer> answer =
            testing::ask(dispatcher, message(static_cast<wire::Opcode>(opcode), 3, Bytes(size, fill)));
        ASSERT_TRUE(answer.has_value());
        EXPECT_EQ(answer->header.has_value(), operation(static_cast<wire::Opcode>(opcode)).answered) << opcode;
      }
    }
  }
}

TEST_F(DispatcherTest, OperationsWithoutTheirWholeStructureFail) {
  create_file("file");
  for (const wire::Opcode opcode : {setattr,
                                    mknod,
                                    mkdir,
                                    rename,
                                    rename2,
                                    link,
                                    create,
                                    tmpfile,
                                    read,
                                    write,
                                    fsync,
                                    fsyncdir,
                                    setxattr,
                                    getxattr,
                                    listxattr,
                                    readdir,
                                    readdirplus,
                                    fallocate,
                                    lseek,
                                    copy_file_range,
                                    copy_file_range_64,
                                    bmap,
                                    ioctl})
    for (std::size_t size = 0; size < operation(opcode).fixed; ++size)
      EXPECT_EQ(ask(opcode, 3, Bytes(size)).error(), EINVAL) << operation(opcode).name << " of " << size << " bytes";
}

TEST_F(DispatcherTest, RandomMessagesGetWellFormedReplies) {
  create_file("file");
  std::uint64_t state = 88172645463325252ull;
  const auto random = [&state] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  };
  for (int round = 0; round < 100000; ++round) {
    auto opcode = static_cast<wire::Opcode>(random() % (kOperationCount + 3));
    if (opcode == destroy) continue;
    Bytes body(random() % 160);
    const std::uint64_t limit = random() % 3 == 0 ? 256 : 3;  // small values get further
    for (std::byte &b : body) b = random() % 4 == 0 ? static_cast<std::byte>(random() % limit) : std::byte{0};
    const Result<Answer> answer = testing::ask(dispatcher, message(opcode, random() % 6, body), 8192);
    ASSERT_TRUE(answer.has_value());
    if (!answer->header) continue;
    EXPECT_LE(answer->error(), wire::kErrorMax);
    EXPECT_GE(answer->error(), 0);
    EXPECT_EQ(answer->header->length, sizeof(wire::OutHeader) + answer->payload.size());
  }
}

TEST(Errors, BecomeErrnosThatTheProtocolCarries) {
  EXPECT_EQ(error_number(Error::user(ENOSPC), "write", 3), ENOSPC);
  EXPECT_EQ(error_number(Error::corrupt("inode: checksum"), "lookup", 3), EUCLEAN);
  EXPECT_EQ(error_number(Error::unsupported("x"), "ioctl", 3), EOPNOTSUPP);
  EXPECT_EQ(error_number(Error::user(0), "x", 3), EIO);
  EXPECT_EQ(error_number(Error::user(512), "x", 3), EIO);
  EXPECT_EQ(error_number(Error::user(-5), "x", 3), EIO);
}

TEST(DirectoryRecords, RefuseNamesThatTheKernelWouldChokeOn) {
  Bytes room(8192);
  for (const std::string &name : {std::string(), std::string("a/b"), std::string("a\0b", 3), std::string(256, 'x')}) {
    Reply reply(room);
    DirectoryReply sink(reply, room.size(), false);
    EXPECT_FALSE(sink.add({name, 5, 8, 1}, nullptr));
    EXPECT_TRUE(sink.met_bad_name());
  }
}

}  // namespace
}  // namespace outboard::fuse::testing
