// The memory file system behind a real mount: what programs see through Linux's FUSE client.
#include "fuse/served_mount.h"

#include "fuse/fusermount.h"
#include "testing/command.h"
#include "testing/expect.h"
#include "vfs/control.h"

#include <algorithm>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <set>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace outboard::fuse::testing {
namespace {

using namespace std::chrono_literals;

UniqueFd open_file(const std::string &path, int flags, mode_t mode = 0644) {
  return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC, mode));
}

std::string contents(const std::string &path) {
  const UniqueFd file = open_file(path, O_RDONLY);
  std::string text;
  char piece[65536];
  for (ssize_t size; (size = ::read(file.get(), piece, sizeof piece)) > 0;)
    text.append(piece, static_cast<std::size_t>(size));
  return text;
}

std::set<std::string> names_in(const std::string &path) {
  std::set<std::string> names;
  DIR *directory = ::opendir(path.c_str());
  if (directory == nullptr) return names;
  while (const dirent *entry = ::readdir(directory)) names.insert(entry->d_name);
  ::closedir(directory);
  return names;
}

TEST(Mount, ServesFilesAndNames) {
  SERVE_OR_SKIP(mount);
  ASSERT_EQ(::mkdir(mount->path("d").c_str(), 0750), 0);
  {
    const UniqueFd file = open_file(mount->path("d/file"), O_CREAT | O_RDWR | O_EXCL, 0640);
    ASSERT_TRUE(file) << strerror(errno);
    ASSERT_EQ(::pwrite(file.get(), "hello", 5, 10000), 5);
    char read_back[8] = {};
    EXPECT_EQ(::pread(file.get(), read_back, sizeof read_back, 9999), 6);
    EXPECT_STREQ(read_back + 1, "hello");
  }
  struct stat status;
  ASSERT_EQ(::stat(mount->path("d/file").c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 10005);
  EXPECT_EQ(status.st_mode, S_IFREG | 0640u);
  ASSERT_EQ(::rename(mount->path("d/file").c_str(), mount->path("moved").c_str()), 0);
  EXPECT_EQ(::access(mount->path("d/file").c_str(), F_OK), -1);
  EXPECT_EQ(errno, ENOENT);
  ASSERT_EQ(::symlink("moved", mount->path("symbolic").c_str()), 0);
  ASSERT_EQ(::link(mount->path("moved").c_str(), mount->path("second").c_str()), 0);
  EXPECT_EQ(contents(mount->path("symbolic")).size(), 10005u);
  EXPECT_EQ(names_in(mount->path()), (std::set<std::string>{".", "..", "d", "moved", "symbolic", "second"}));
  EXPECT_EQ(
      ::renameat2(AT_FDCWD, mount->path("moved").c_str(), AT_FDCWD, mount->path("second").c_str(), RENAME_NOREPLACE),
      -1);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(::renameat2(AT_FDCWD, mount->path("moved").c_str(), AT_FDCWD, mount->path("d").c_str(), RENAME_EXCHANGE),
            0);
  EXPECT_EQ(::truncate(mount->path("second").c_str(), 3), 0);
  EXPECT_EQ(contents(mount->path("second")), std::string(3, '\0'));
  EXPECT_EQ(::unlink(mount->path("second").c_str()), 0);
  EXPECT_EQ(::rmdir(mount->path("moved").c_str()), 0);
  EXPECT_EQ(::unlink(mount->path("d").c_str()), 0);
}

TEST(Mount, UnlinkedAndTemporaryFilesLiveUntilClosed) {
  SERVE_OR_SKIP(mount);
  const UniqueFd file = open_file(mount->path("f"), O_CREAT | O_RDWR);
  ASSERT_EQ(::write(file.get(), "still", 5), 5);
  ASSERT_EQ(::unlink(mount->path("f").c_str()), 0);
  ASSERT_EQ(::fsync(file.get()), 0);
  char text[5];
  EXPECT_EQ(::pread(file.get(), text, 5, 0), 5);
  const UniqueFd temporary = open_file(mount->path(), O_TMPFILE | O_RDWR, 0600);
  ASSERT_TRUE(temporary) << strerror(errno);
  EXPECT_EQ(::write(temporary.get(), "x", 1), 1);
}

TEST(Mount, NameLimitIs255Bytes) {
  SERVE_OR_SKIP(mount);
  EXPECT_TRUE(open_file(mount->path(std::string(255, 'n')), O_CREAT | O_RDWR));
  EXPECT_FALSE(open_file(mount->path(std::string(256, 'n')), O_CREAT | O_RDWR));
  EXPECT_EQ(errno, ENAMETOOLONG);
  struct stat status;
  EXPECT_EQ(::stat(mount->path(std::string(256, 'n')).c_str(), &status), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
}

TEST(Mount, ListsLargeDirectoriesWhole) {
  SERVE_OR_SKIP(mount);
  std::set<std::string> expected{".", ".."};
  for (int i = 0; i < 5000; ++i) {
    const std::string name = fmt::format("some-longer-name-of-a-file-{}", i);
    ASSERT_TRUE(open_file(mount->path(name), O_CREAT | O_RDWR));
    expected.insert(name);
  }
  EXPECT_EQ(names_in(mount->path()), expected);
  ASSIGN_OK(const auto listing, outboard::testing::run_command({"ls", "-lR", mount->path()}));
  EXPECT_EQ(listing.exit, 0);
  EXPECT_EQ(std::count(listing.out.begin(), listing.out.end(), '\n'), 5000 + 2);
}

TEST(Mount, XattrsAclsAndTimes) {
  SERVE_OR_SKIP(mount);
  const std::string path = mount->path("f");
  ASSERT_TRUE(open_file(path, O_CREAT | O_RDWR));
  ASSERT_EQ(::setxattr(path.c_str(), "user.a", "value", 5, 0), 0);
  char value[10];
  EXPECT_EQ(::getxattr(path.c_str(), "user.a", value, sizeof value), 5);
  EXPECT_EQ(::getxattr(path.c_str(), "user.a", value, 2), -1);
  EXPECT_EQ(errno, ERANGE);
  EXPECT_EQ(::listxattr(path.c_str(), value, sizeof value), 7);
  EXPECT_EQ(::removexattr(path.c_str(), "user.a"), 0);
  EXPECT_EQ(::getxattr(path.c_str(), "user.a", value, sizeof value), -1);
  EXPECT_EQ(errno, ENODATA);
  const timespec times[2] = {{1, 2}, {-3, 999999999}};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  struct statx status;
  ASSERT_EQ(::statx(AT_FDCWD, path.c_str(), 0, STATX_ALL, &status), 0);
  EXPECT_EQ(status.stx_mtime.tv_sec, -3);
  EXPECT_EQ(status.stx_mtime.tv_nsec, 999999999u);
  EXPECT_NE(status.stx_mask & STATX_BTIME, 0u);
  EXPECT_GT(status.stx_btime.tv_sec, 1'600'000'000);
}

TEST(Mount, WarmStatsLookupsAndReadsCostNoRequest) {
  SERVE_OR_SKIP(mount);
  const std::string path = mount->path("f");
  ASSERT_EQ(::mknod(path.c_str(), S_IFREG | 0644, 0), 0);  // not by open(): see OpensCostNoRequest
  { ASSERT_EQ(::write(open_file(path, O_RDWR).get(), "data", 4), 4); }
  struct stat status;
  ::stat(mount->path("absent").c_str(), &status);
  contents(path);
  std::uint64_t before = mount->requests();
  for (int i = 0; i < 100; ++i) ASSERT_EQ(contents(path), "data");
  EXPECT_EQ(mount->requests() - before, 1u);  // the question itself
  // With the writeback cache each close makes the kernel doubt st_blocks: one question after it, and none after that.
  ::stat(path.c_str(), &status);
  before = mount->requests();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    ASSERT_EQ(::stat(mount->path("absent").c_str(), &status), -1);
  }
  EXPECT_EQ(mount->requests() - before, 1u);
}

TEST(Mount, OpensCostNoRequest) {
  SERVE_OR_SKIP(mount);
  const std::string path = mount->path("f");
  // Not by open(): what that opened is released by a request of its own, some time after close() has returned.
  ASSERT_EQ(::mknod(path.c_str(), S_IFREG | 0644, 0), 0);
  ASSERT_TRUE(open_file(path, O_RDWR));
  const std::uint64_t before = mount->requests();
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(open_file(path, O_RDWR));
  EXPECT_EQ(mount->requests() - before, 1u);
}

TEST(Mount, WritesArriveLargeAndOnPageBoundaries) {
  SERVE_OR_SKIP(mount);
  const std::string path = mount->path("f");
  std::string pattern(8 << 20, '\0');
  for (std::size_t i = 0; i < pattern.size(); ++i) pattern[i] = static_cast<char>(i * 7 + (i >> 12));
  {
    const UniqueFd file = open_file(path, O_CREAT | O_RDWR);
    ASSERT_EQ(::write(file.get(), pattern.data(), pattern.size()), static_cast<ssize_t>(pattern.size()));
    ASSERT_EQ(::fsync(file.get()), 0);
    ASSERT_EQ(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  }
  EXPECT_EQ(mount->controls().unaligned_writes, 0u);
  EXPECT_GE(mount->controls().largest_write, 128u << 10);
  EXPECT_TRUE(contents(path) == pattern);
  EXPECT_GT(mount->controls().reads, 0u);
}

TEST(Mount, DirectIoReadsAndWrites) {
  SERVE_OR_SKIP(mount);
  const std::string path = mount->path("f");
  const UniqueFd file = open_file(path, O_CREAT | O_RDWR | O_DIRECT);
  ASSERT_TRUE(file);
  void *memory = nullptr;
  ASSERT_EQ(::posix_memalign(&memory, 4096, 2 << 20), 0);
  const std::unique_ptr<void, decltype(&std::free)> owner(memory, &std::free);
  std::memset(memory, 'd', 2 << 20);
  EXPECT_EQ(::pwrite(file.get(), memory, 2 << 20, 0), 2 << 20);
  std::memset(memory, 0, 2 << 20);
  EXPECT_EQ(::pread(file.get(), memory, 2 << 20, 0), 2 << 20);
  EXPECT_EQ(static_cast<char *>(memory)[(2 << 20) - 1], 'd');
  EXPECT_EQ(mount->controls().largest_write, 1u << 20);
}

// --- what the kernel holds dirty ------------------------------------------------------------------------------------

TEST(Mount, SeekSeesDirtyBufferedPages) {
  SERVE_OR_SKIP(mount);
  const UniqueFd file = open_file(mount->path("f"), O_CREAT | O_RDWR);
  ASSERT_EQ(::ftruncate(file.get(), 64 << 20), 0);
  const std::string data(4096, 'x');
  ASSERT_EQ(::pwrite(file.get(), data.data(), data.size(), 8 << 20), 4096);
  EXPECT_EQ(mount->controls().writes, 0u);  // still in the page cache
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_DATA), 8 << 20);
  EXPECT_EQ(::lseek(file.get(), 8 << 20, SEEK_HOLE), (8 << 20) + 4096);
  EXPECT_EQ(::lseek(file.get(), (8 << 20) + 4096, SEEK_DATA), -1);
  EXPECT_EQ(errno, ENXIO);
}

TEST(Mount, SeekSeesDirtyMappedPages) {
  SERVE_OR_SKIP(mount);
  const UniqueFd file = open_file(mount->path("f"), O_CREAT | O_RDWR);
  ASSERT_EQ(::ftruncate(file.get(), 16 << 20), 0);
  auto *map = static_cast<char *>(::mmap(nullptr, 16 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  ASSERT_NE(map, MAP_FAILED);
  map[(4 << 20) + 5] = 'm';
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_DATA), 4 << 20);
  map[(2 << 20) + 5] = 'm';  // the page is clean again: this must be noticed anew
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_DATA), 2 << 20);
  EXPECT_EQ(map[(4 << 20) + 5], 'm');
  ::munmap(map, 16 << 20);
}

// Many at once, while others write: each seek's write-back needs workers, and none of them may be waiting for one.
TEST(Mount, SeeksOfManyDirtyFilesDoNotDeadlock) {
  ServedMountOptions options;
  options.session.threads = 1;
  options.session.max_threads = 1;
  SERVE_OR_SKIP(mount, options);
  std::vector<std::thread> clients;
  std::atomic<int> wrong{0};
  for (int client = 0; client < 8; ++client)
    clients.emplace_back([&, client] {
      const UniqueFd file = open_file(mount->path(fmt::format("f{}", client)), O_CREAT | O_RDWR);
      const std::string data(64 << 10, 'x');
      if (::ftruncate(file.get(), 64 << 20) != 0) ++wrong;
      for (int round = 30; round > 0; --round) {
        const off_t at = off_t{round} << 20;
        if (::pwrite(file.get(), data.data(), data.size(), at) != static_cast<ssize_t>(data.size())) ++wrong;
        if (::lseek(file.get(), 0, SEEK_DATA) != at) ++wrong;
        if (::lseek(file.get(), at, SEEK_HOLE) != at + static_cast<off_t>(data.size())) ++wrong;
      }
    });
  for (std::thread &client : clients) client.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(mount->workers(), 1u);
}

// Only what lies behind the offset is asked for, so a program that walks a file keeps what it has read of it.
TEST(Mount, SeekKeepsWhatIsCachedBeforeItsOffset) {
  SERVE_OR_SKIP(mount);
  const std::string path = mount->path("f");
  const UniqueFd file = open_file(path, O_CREAT | O_RDWR);
  const std::string data(1 << 20, 'x');
  ASSERT_EQ(::write(file.get(), data.data(), data.size()), 1 << 20);
  ASSERT_EQ(::fsync(file.get()), 0);
  EXPECT_EQ(::lseek(file.get(), (1 << 20) - 4096, SEEK_DATA), (1 << 20) - 4096);
  std::string read_back(512 << 10, '\0');
  EXPECT_EQ(::pread(file.get(), read_back.data(), read_back.size(), 0), 512 << 10);
  EXPECT_EQ(mount->controls().reads, 0u);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_DATA), 0);
  EXPECT_EQ(::pread(file.get(), read_back.data(), read_back.size(), 0), 512 << 10);
  EXPECT_GT(mount->controls().reads, 0u);
}

TEST(Mount, CopyFileRangeSeesDirtyPages) {
  SERVE_OR_SKIP(mount);
  const UniqueFd from = open_file(mount->path("from"), O_CREAT | O_RDWR),
                 to = open_file(mount->path("to"), O_CREAT | O_RDWR);
  const std::string data(100000, 'c');
  ASSERT_EQ(::write(from.get(), data.data(), data.size()), 100000);
  off_t at_from = 0, at_to = 0;
  ASSERT_EQ(::copy_file_range(from.get(), &at_from, to.get(), &at_to, data.size(), 0), 100000);
  EXPECT_EQ(contents(mount->path("to")), data);
}

// --- errors, ends ---------------------------------------------------------------------------------------------------

TEST(Mount, WriteBackErrorReachesEachOpenFile) {
  SERVE_OR_SKIP(mount);
  const UniqueFd first = open_file(mount->path("f"), O_CREAT | O_RDWR), second = open_file(mount->path("f"), O_RDWR);
  ASSERT_EQ(::write(first.get(), "data", 4), 4);
  mount->controls().fail_writes = ENOSPC;
  EXPECT_EQ(::fsync(first.get()), -1);
  EXPECT_EQ(errno, ENOSPC);
  mount->controls().fail_writes = 0;
  EXPECT_EQ(::fsync(second.get()), -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(::fsync(first.get()), 0);
  EXPECT_EQ(::fsync(second.get()), 0);
}

TEST(Mount, UnmountEndsTheServerAfterTheFilesystem) {
  SERVE_OR_SKIP(mount);
  { ASSERT_EQ(::write(open_file(mount->path("f"), O_CREAT | O_RDWR).get(), "x", 1), 1); }
  ASSERT_OK(unmount(mount->path(), false));
  EXPECT_EQ(mount->wait_for_server(10s), 0);
  EXPECT_EQ(mount->controls().unmounts, 1u);
}

TEST(Mount, UnmountOfABusyMountIsRefusedUnlessLazy) {
  SERVE_OR_SKIP(mount);
  UniqueFd file = open_file(mount->path("f"), O_CREAT | O_RDWR);
  ASSERT_TRUE(file);
  EXPECT_ERROR(unmount(mount->path(), false), EBUSY);
  ASSERT_OK(unmount(mount->path(), true));
  EXPECT_EQ(::write(file.get(), "x", 1), 1);
  EXPECT_EQ(::fsync(file.get()), 0);
  EXPECT_EQ(mount->wait_for_server(100ms), std::nullopt);
  file.reset();
  EXPECT_EQ(mount->wait_for_server(10s), 0);
}

TEST(Mount, ClientsOfAKilledServerGetAnError) {
  SERVE_OR_SKIP(mount);
  const UniqueFd file = open_file(mount->path("f"), O_CREAT | O_RDWR);
  mount->kill_server();
  struct stat status;
  EXPECT_EQ(::stat(mount->path("g").c_str(), &status), -1);
  EXPECT_EQ(errno, ENOTCONN);
}

TEST(Mount, FurtherWorkersComeWhileAllAreHeldUp) {
  ServedMountOptions options;
  options.session.threads = 2;
  SERVE_OR_SKIP(mount, options);
  constexpr int kClients = 10;
  mount->controls().syncs_meet = kClients;  // no fsync returns before all are inside
  std::vector<std::thread> clients;
  std::atomic<int> failed{0};
  for (int i = 0; i < kClients; ++i)
    clients.emplace_back([&, i] {
      const UniqueFd file = open_file(mount->path(fmt::format("f{}", i)), O_CREAT | O_RDWR);
      if (::fsync(file.get()) != 0) ++failed;
    });
  for (std::thread &client : clients) client.join();
  EXPECT_EQ(failed, 0);
  // And they go again when there is nothing for them to do.
  for (int i = 0; i < 200 && mount->workers() > 2; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_LE(mount->workers(), 3u);
}

// --- control --------------------------------------------------------------------------------------------------------

TEST(Mount, ControlIoctlSyncsAndIdentifies) {
  SERVE_OR_SKIP(mount);
  const UniqueFd root = open_file(mount->path(), O_RDONLY | O_DIRECTORY);
  EXPECT_EQ(::ioctl(root.get(), vfs::kControlSync), 0);
  EXPECT_EQ(mount->controls().sync_alls, 1u);
  vfs::ControlIdentity identity{};
  ASSERT_EQ(::ioctl(root.get(), vfs::kControlIdentify, &identity), 0);
  EXPECT_EQ(std::string_view(identity.program, sizeof identity.program), "outboard");
  EXPECT_EQ(identity.server_pid, static_cast<std::uint32_t>(mount->server()));
  EXPECT_EQ(::ioctl(root.get(), _IO(vfs::kControlMagic, 99)), -1);
  EXPECT_EQ(errno, ENOTTY);
}

TEST(Mount, TableShowsSourceAndType) {
  ServedMountOptions options;
  options.mount.source = "/some where/image,\\1.img";
  options.mount.nosuid = options.mount.noatime = true;
  SERVE_OR_SKIP(mount, options);
  ASSIGN_OK(const MountTableEntry entry, find_mount(mount->path()));
  EXPECT_EQ(entry.type, "fuse.outboard");
  EXPECT_EQ(entry.source, "/some where/image,\\1.img");
  struct statvfs status;
  ASSERT_EQ(::statvfs(mount->path().c_str(), &status), 0);
  EXPECT_NE(status.f_flag & ST_NOSUID, 0u);
  EXPECT_NE(status.f_flag & ST_NOATIME, 0u);
  EXPECT_EQ(status.f_blocks, 1000u);
}

TEST(Mount, ReadAheadCanBeRaised) {
  SERVE_OR_SKIP(mount);
  ASSIGN_OK(const MountTableEntry entry, find_mount(mount->path()));
  const Status raised = raise_read_ahead(entry, 4096);
  if (!raised) GTEST_SKIP() << raised.error().message();
  EXPECT_EQ(contents(fmt::format("/sys/class/bdi/{}:{}/read_ahead_kb", entry.device_major, entry.device_minor)),
            "4096\n");
}

TEST(Mount, ReadOnlyMountsRefuseChanges) {
  ServedMountOptions options;
  options.mount.read_only = options.session.read_only = true;
  SERVE_OR_SKIP(mount, options);
  EXPECT_FALSE(open_file(mount->path("f"), O_CREAT | O_RDWR));
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(names_in(mount->path()), (std::set<std::string>{".", ".."}));
}

// --- other ways to mount --------------------------------------------------------------------------------------------

TEST(Fusermount, OptionsEscapeWhatSeparatesThem) {
  MountRequest request{.source = "a,b\\c", .read_only = true, .default_permissions = false, .nosuid = true};
  EXPECT_EQ(fusermount::option_string(request), "fsname=a\\,b\\\\c,subtype=outboard,ro,nosuid");
}

TEST(Fusermount, MountsAndUnmounts) {
  if (!outboard::testing::have_program("fusermount3")) GTEST_SKIP() << "fusermount3 is not installed";
  ServedMountOptions options;
  options.through_fusermount = true;
  SERVE_OR_SKIP(mount, options);
  ASSERT_TRUE(open_file(mount->path("f"), O_CREAT | O_RDWR)) << strerror(errno);
  ASSIGN_OK(const MountTableEntry entry, find_mount(mount->path()));
  EXPECT_EQ(entry.type, "fuse.outboard");
  EXPECT_EQ(entry.source, "memory");
  ASSERT_OK(fusermount::unmount(mount->path(), false, nullptr));
  EXPECT_EQ(mount->wait_for_server(10s), 0);
  std::string words;
  EXPECT_ERROR(fusermount::unmount(mount->path(), false, &words), EPERM);
  EXPECT_FALSE(words.empty());
}

// A /dev/fuse for everybody, as distributions have it, in a mount namespace of our own.
bool open_device_to_everybody(const std::string &directory) {
  const std::string device = directory + "/fuse";
  return ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", directory.c_str(), "tmpfs", 0, "mode=1777") == 0 &&
         ::mknod(device.c_str(), S_IFCHR | 0666, makedev(10, 229)) == 0 && ::chmod(device.c_str(), 0666) == 0 &&
         ::mount(device.c_str(), "/dev/fuse", nullptr, MS_BIND, nullptr) == 0;
}

// Somebody without privilege: mount() finds that mount(2) is not for them and asks the helper.
TEST(Fusermount, MountsForSomebodyWithoutPrivilege) {
  if (const std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  if (!outboard::testing::have_program("fusermount3")) GTEST_SKIP() << "fusermount3 is not installed";
  constexpr uid_t kNobody = 65534;
  const outboard::testing::TemporaryDirectory directory;
  const pid_t child = ::fork();
  if (child == 0) {
    if (!open_device_to_everybody(directory.path())) ::_exit(77);
    ::setenv("TMPDIR", directory.path().c_str(), 1);  // gone with the namespace, and open to everybody
    if (::setresgid(kNobody, kNobody, kNobody) != 0 || ::setresuid(kNobody, kNobody, kNobody) != 0) ::_exit(77);
    int result = 0;
    {
      ServedMountOptions options;
      options.mount.allow_other = false;
      options.session.owner_uid = kNobody;
      auto mount = ServedMount::start(options);
      if (!mount) ::_exit(mount.error().is(EPERM) ? 77 : 2);
      const UniqueFd root = open_file((*mount)->path(), O_RDONLY | O_DIRECTORY);
      if (::ioctl(root.get(), vfs::kControlSync) != 0 || (*mount)->controls().sync_alls != 1) result = 3;
      struct stat status;
      if (::stat((*mount)->path().c_str(), &status) != 0 || status.st_uid != 0) result = 4;
      // The memory file system's root belongs to root with mode 0755: the kernel checks permissions.
      if (open_file((*mount)->path("f"), O_CREAT | O_RDWR) || errno != EACCES) result = 5;
    }
    ::_exit(result);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "fusermount3 refuses (its device or its configuration)";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Another process of the caller's user becomes root of a user namespace with mounts of its own.
TEST(UserNamespace, RootOfItMountsWithoutAHelper) {
  if (const std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ::_exit(77);
    const auto put = [](const char *path, std::string_view text) {
      const UniqueFd file(::open(path, O_WRONLY));
      return file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    };
    if (!put("/proc/self/setgroups", "deny") || !put("/proc/self/uid_map", "0 0 1") ||
        !put("/proc/self/gid_map", "0 0 1"))
      ::_exit(77);
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    int result = 1;
    {
      auto mount = ServedMount::start();
      if (!mount) ::_exit(2);
      if (open_file((*mount)->path("f"), O_CREAT | O_RDWR) && names_in((*mount)->path()).size() == 3) result = 0;
      if (!unmount((*mount)->path(), false)) result = 3;
      if ((*mount)->wait_for_server(10s) != 0) result = 4;
    }
    ::_exit(result);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no user namespaces here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Its connection is found in the control file system, which a mount namespace of our own shows for the test.
TEST(Connection, AbortFreesClientsAndServer) {
  if (const std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("fusectl", "/sys/fs/fuse/connections", "fusectl", 0, nullptr) != 0)
      ::_exit(77);
    int result = 0;
    {
      auto mount = ServedMount::start();
      if (!mount) ::_exit(2);
      struct stat status;
      if (::stat((*mount)->path("absent").c_str(), &status) == 0 || errno != ENOENT) result = 3;
      const auto entry = find_mount((*mount)->path());
      if (!entry || !abort_connection(*entry)) result = 4;
      if (::stat((*mount)->path("other").c_str(), &status) == 0 || (errno != ENOTCONN && errno != ECONNABORTED))
        result = 5;
      if ((*mount)->wait_for_server(10s) != 0) result = 6;
    }
    ::_exit(result);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no control file system here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// A loop device over a file that only serves as the mount's source.
class LoopDevice {
public:
  LoopDevice() {
    const std::string file = directory_.file("backing");
    if (!UniqueFd(::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600)) || ::truncate(file.c_str(), 16 << 20) != 0)
      return;
    const auto result = outboard::testing::run_command({"losetup", "--find", "--show", file});
    if (result && result->exit == 0) path_ = result->out.substr(0, result->out.find('\n'));
  }
  ~LoopDevice() {
    if (!path_.empty()) static_cast<void>(outboard::testing::run_command({"losetup", "-d", path_}));
  }
  const std::string &path() const { return path_; }

private:
  outboard::testing::TemporaryDirectory directory_;
  std::string path_;
};

TEST(BlockDeviceMount, SyncReachesTheServerAndUnmountWaitsForIt) {
  if (const std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  const LoopDevice loop;
  if (loop.path().empty()) GTEST_SKIP() << "no loop device to be had";
  ServedMountOptions options;
  options.mount.source = loop.path();
  options.mount.block_device = true;
  SERVE_OR_SKIP(mount, options);
  ASSIGN_OK(const MountTableEntry entry, find_mount(mount->path()));
  EXPECT_EQ(entry.type, "fuseblk.outboard");
  EXPECT_EQ(entry.source, loop.path());
  {
    const UniqueFd file = open_file(mount->path("f"), O_CREAT | O_RDWR);
    ASSERT_EQ(::write(file.get(), "data", 4), 4);
    EXPECT_EQ(::syncfs(file.get()), 0);
    EXPECT_GE(mount->controls().sync_alls, 1u);
    EXPECT_EQ(mount->controls().write_bytes, 4u);
    // FIBMAP walks: the dirty file is written back before its first block is answered for, not for each block.
    ASSERT_EQ(::pwrite(file.get(), "more", 4, 4096), 4);
    int block = 1;
    ASSERT_EQ(::ioctl(file.get(), FIBMAP, &block), 0) << strerror(errno);
    EXPECT_NE(block, 0);
    EXPECT_EQ(mount->controls().maps, 1u);
  }
  if (const Status raised = raise_read_ahead(entry, 4096); !raised) {
    EXPECT_TRUE(raised.error().is(EACCES) || raised.error().is(EROFS)) << raised.error().message();
  }
  mount->controls().unmount_milliseconds = 300;
  ASSERT_OK(unmount(mount->path(), false));
  EXPECT_EQ(mount->controls().unmounts, 1u);  // umount(2) has waited for it
  EXPECT_EQ(mount->wait_for_server(10s), 0);
  EXPECT_EQ(mount->controls().unmounts, 1u);
}

// --- the session in this process ------------------------------------------------------------------------------------

TEST(Session, StopEndsServingOfAMountThatIsStillThere) {
  if (const std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  outboard::testing::TemporaryDirectory directory;
  const std::string target = directory.file("mount");
  ASSERT_EQ(::mkdir(target.c_str(), 0755), 0);
  ASSIGN_OK(Mounted mounted, mount({.source = "memory", .target = target}));
  Controls controls{};
  MemoryFilesystem filesystem(controls);
  {
    ASSIGN_OK(const auto session, Session::create(std::move(mounted.descriptor), filesystem, {.threads = 3}));
    EXPECT_OK(session->negotiate());
    EXPECT_TRUE(session->agreement().has(wire::init_flag::writeback_cache));
    std::thread stopper([&] {
      std::this_thread::sleep_for(100ms);
      session->stop();
    });
    EXPECT_OK(session->serve());
    stopper.join();
    EXPECT_EQ(session->workers(), 0u);
    EXPECT_FALSE(session->filesystem_unmounted());
  }
  EXPECT_OK(unmount(target, true));
}

TEST(Session, RefusesAMissingDescriptor) {
  Controls controls{};
  MemoryFilesystem filesystem(controls);
  EXPECT_ERROR(Session::create(UniqueFd(), filesystem, {}), EBADF);
}

TEST(MountRequests, NameWhatIsWrong) {
  EXPECT_ERROR(mount({.source = "x", .target = "/nonexistent/directory"}), ENOENT);
  EXPECT_ERROR(mount({.source = "x", .target = "/etc/passwd"}), ENOTDIR);
  EXPECT_ERROR(find_mount("/nonexistent/directory"), ENOENT);
}

}  // namespace
}  // namespace outboard::fuse::testing
