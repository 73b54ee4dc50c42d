#include "fuse/channel.h"

#include "fuse/gate.h"

#include <cstring>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace outboard::fuse {

Result<UniqueFd> Channel::open_device() {
  UniqueFd descriptor(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!descriptor) return fail(Error::system(errno, "/dev/fuse cannot be opened"));
  return descriptor;
}

Result<Channel> Channel::clone() const {
  UniqueFd descriptor = TRY(open_device());
  std::uint32_t original = static_cast<std::uint32_t>(descriptor_.get());
  if (::ioctl(descriptor.get(), wire::kDeviceClone, &original) != 0)
    return fail(Error::system(errno, "/dev/fuse: no further queue for the connection"));
  return Channel(std::move(descriptor));
}

Result<std::span<const std::byte>> Channel::receive(RequestBuffer &buffer) const {
  const std::span<std::byte> into = buffer.bytes();
  for (;;) {
    // The wait of an idle worker: ends with a request, a signal (Session::stop) or the end of the connection.
    const ssize_t size = ::read(descriptor_.get(), into.data(), into.size());
    if (size >= 0) return std::span<const std::byte>(into.first(static_cast<std::size_t>(size)));
    if (errno == EINTR) return std::span<const std::byte>();
    // ENOENT: the request was withdrawn while being copied. EAGAIN: somebody made the descriptor non-blocking.
    if (errno == ENOENT || errno == EAGAIN) continue;
    return fail(Error::system(errno, "/dev/fuse: reading a request"));
  }
}

Result<Delivery> Channel::send(std::uint64_t unique, const Reply &reply, ReplyBuffer &buffer) const {
  const wire::OutHeader header = reply.header(unique);
  const std::span<std::byte> message = buffer.message();
  std::memcpy(message.data(), &header, sizeof header);
  for (;;) {
    if (::write(descriptor_.get(), message.data(), header.length) >= 0) return Delivery::taken;
    if (errno == EINTR || errno == EAGAIN) continue;
    if (errno == ENOENT || errno == ENODEV || errno == ECONNABORTED) return Delivery::gone;
    return fail(Error::system(errno, "/dev/fuse: the kernel refused a reply"));
  }
}

Status Channel::write_back(vfs::NodeId node, std::uint64_t offset) const {
  struct {
    wire::OutHeader header;
    wire::NotifyInvalidateInode body;
  } message{};
  static_assert(sizeof message == 40);
  message.header = {.length = sizeof message, .error = wire::kNotifyInvalidateInode, .unique = 0};
  message.body = {.node = node, .offset = static_cast<std::int64_t>(offset), .length = 0};
  about_to_wait(kRequestEnds);  // the WRITEs that this sends to others
  for (;;) {
    if (::write(descriptor_.get(), &message, sizeof message) >= 0 || errno == ENOENT) return {};
    if (errno == EINTR || errno == EAGAIN) continue;
    return fail(Error::system(errno, "/dev/fuse: the kernel did not write back a file"));
  }
}

}  // namespace outboard::fuse
