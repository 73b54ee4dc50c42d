#include "support/sticky_file.h"

#include "base/unique_fd.h"
#include "fuse/wire.h"

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <list>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace outboard::tests {

namespace {

namespace wire = fuse::wire;
using wire::Opcode;

constexpr std::uint64_t kRoot = 1, kImage = 2;
constexpr std::uint32_t kDirectIo = 1;  // of OpenOut::flags: nothing of the file is cached
constexpr std::size_t kMaxWrite = 128 << 10;

// One request after another, by one thread: carried out, or kept while it is stuck.
class Server {
public:
  Server(int device, int file) : device_(device), file_(file) {}

  // False when the mount has gone.
  bool take() {
    std::vector<std::byte> message(kMaxWrite + 8192);
    const ssize_t size = ::read(device_, message.data(), message.size());
    if (size < 0) return errno == EINTR || errno == EAGAIN || errno == ENOENT;
    message.resize(static_cast<std::size_t>(size));
    waiting_.push_back(std::move(message));
    return true;
  }
  // Answers whatever is not stuck; returns how many are.
  int answer(StickyFile::Stuck stuck) {
    for (auto request = waiting_.begin(); request != waiting_.end();) {
      if (is_stuck(*request, stuck)) ++request;
      else {
        carry_out(*request);
        request = waiting_.erase(request);
      }
    }
    return static_cast<int>(waiting_.size());
  }

private:
  using Message = std::vector<std::byte>;
  static wire::InHeader header(const Message &message) {
    wire::InHeader header{};
    std::memcpy(&header, message.data(), sizeof header);
    return header;
  }
  template <class T> static T body(const Message &message) {
    T in{};
    std::memcpy(&in, message.data() + sizeof(wire::InHeader), std::min(sizeof in, message.size() - sizeof(wire::InHeader)));
    return in;
  }
  static bool is_stuck(const Message &message, StickyFile::Stuck stuck) {
    using Stuck = StickyFile::Stuck;
    switch (static_cast<Opcode>(header(message).opcode)) {
    case Opcode::read: return stuck == Stuck::reads || stuck == Stuck::everything;
    case Opcode::write:
    case Opcode::fsync:
    case Opcode::fallocate: return stuck == Stuck::changes || stuck == Stuck::everything;
    default: return false;
    }
  }

  void reply(std::uint64_t unique, int error, const void *data = nullptr, std::size_t size = 0) {
    std::vector<std::byte> out(sizeof(wire::OutHeader) + size);
    const wire::OutHeader head = {.length = static_cast<std::uint32_t>(out.size()), .error = -error, .unique = unique};
    std::memcpy(out.data(), &head, sizeof head);
    if (size != 0) std::memcpy(out.data() + sizeof head, data, size);
    // A request that has been aborted meanwhile is refused; nobody waits for it.
    [[maybe_unused]] const ssize_t ignored = ::write(device_, out.data(), out.size());
  }
  template <class T> void reply_with(std::uint64_t unique, const T &out) { reply(unique, 0, &out, sizeof out); }

  wire::Attr attributes(std::uint64_t node) const {
    struct stat s {};
    ::fstat(file_, &s);
    wire::Attr attr{};
    attr.inode = node;
    attr.mode = node == kRoot ? S_IFDIR | 0755 : S_IFREG | 0644;
    attr.links = 1;
    attr.size = node == kRoot ? 0 : static_cast<std::uint64_t>(s.st_size);
    attr.blocks = static_cast<std::uint64_t>(s.st_blocks);
    attr.block_size = 4096;
    return attr;
  }

  void carry_out(const Message &message) {
    const wire::InHeader in = header(message);
    switch (static_cast<Opcode>(in.opcode)) {
    case Opcode::init: {
      const auto offer = body<wire::InitIn>(message);
      wire::InitOut out{};
      out.major = 7;
      out.minor = std::min(offer.minor, 31u);
      out.max_readahead = offer.max_readahead;
      out.max_background = 64;
      out.congestion_threshold = 48;
      out.max_write = kMaxWrite;
      out.time_granularity = 1;
      return reply_with(in.unique, out);
    }
    case Opcode::lookup: {
      if (std::strcmp(reinterpret_cast<const char *>(message.data() + sizeof in), "image") != 0) return reply(in.unique, ENOENT);
      wire::EntryOut out{};
      out.node = kImage;
      out.entry_valid = out.attr_valid = 3600;
      out.attr = attributes(kImage);
      return reply_with(in.unique, out);
    }
    case Opcode::getattr: {
      wire::AttrOut out{};
      out.attr_valid = 3600;
      out.attr = attributes(in.node);
      return reply_with(in.unique, out);
    }
    case Opcode::open: return reply_with(in.unique, wire::OpenOut{.handle = 0, .flags = kDirectIo, .backing_id = 0});
    case Opcode::opendir: return reply_with(in.unique, wire::OpenOut{});
    case Opcode::release:
    case Opcode::releasedir: return reply(in.unique, 0);
    case Opcode::statfs: return reply_with(in.unique, wire::StatfsOut{});
    case Opcode::read: {
      const auto args = body<wire::ReadIn>(message);
      std::vector<std::byte> data(args.size);
      const ssize_t got = ::pread(file_, data.data(), data.size(), static_cast<off_t>(args.offset));
      return got < 0 ? reply(in.unique, errno) : reply(in.unique, 0, data.data(), static_cast<std::size_t>(got));
    }
    case Opcode::write: {
      const auto args = body<wire::WriteIn>(message);
      const ssize_t put = ::pwrite(file_, message.data() + sizeof in + sizeof args, args.size, static_cast<off_t>(args.offset));
      wire::WriteOut out{};
      out.size = static_cast<std::uint32_t>(put);
      return put < 0 ? reply(in.unique, errno) : reply_with(in.unique, out);
    }
    // Nothing here is about power cuts, and a busy disk would be one more device that does not answer.
    case Opcode::fsync: return reply(in.unique, 0);
    case Opcode::forget:
    case Opcode::batch_forget:
    case Opcode::interrupt: return;
    default: return reply(in.unique, ENOSYS);
    }
  }

  const int device_, file_;
  std::list<Message> waiting_;
};

}  // namespace

void StickyFile::serve(int device, int file) {
  // Whatever becomes of the test, nobody is left waiting.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Server server(device, file);
  for (;;) {
    pollfd ready = {device, POLLIN, 0};
    if (::poll(&ready, 1, 5) < 0 && errno != EINTR) ::_exit(1);
    if (ready.revents != 0 && !server.take()) ::_exit(0);
    shared_->held.store(server.answer(static_cast<Stuck>(shared_->stuck.load())));
  }
}

StickyFile::StickyFile(const std::string &behind, const std::string &directory) : directory_(directory) { start(behind); }

void StickyFile::start(const std::string &behind) {
  ::mkdir(directory_.c_str(), 0755);
  void *memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  shared_ = new (memory) Shared{};
  const UniqueFd file(::open(behind.c_str(), O_RDWR | O_CLOEXEC));
  const UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(file && device);
  const std::string options = fmt::format("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", device.get());
  ASSERT_EQ(::mount("sticky", directory_.c_str(), "fuse.sticky", MS_NOSUID | MS_NODEV, options.c_str()), 0) << strerrorname_np(errno);
  server_ = ::fork();
  if (server_ == 0) serve(device.get(), file.get());
}

StickyFile::~StickyFile() {
  die();
  ::umount2(directory_.c_str(), MNT_DETACH);
  if (shared_ != nullptr) ::munmap(shared_, sizeof *shared_);
}

void StickyFile::die() {
  if (server_ <= 0) return;
  ::kill(server_, SIGKILL);
  ::waitpid(server_, nullptr, 0);
  server_ = -1;
}

}  // namespace outboard::tests
