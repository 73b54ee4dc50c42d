#include "fuse/message_buffer.h"

#include "base/units.h"
#include "fuse/reply.h"

#include <algorithm>
#include <sys/mman.h>
#include <unistd.h>

namespace outboard::fuse {

std::size_t page_size() {
  static const std::size_t size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

void UnmapPages::operator()(std::byte *memory) const { ::munmap(memory, size); }

Result<Pages> Pages::allocate(std::size_t size) {
  size = round_up(size, page_size());
  void *memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return fail(Error::system(errno, "memory for messages"));
  Pages pages;
  pages.memory_ = std::unique_ptr<std::byte[], UnmapPages>(static_cast<std::byte *>(memory), UnmapPages{size});
  return pages;
}

Result<RequestBuffer> RequestBuffer::allocate(std::size_t max_write) {
  max_write = std::max(max_write, kLeastRequestRoom);
  RequestBuffer buffer;
  buffer.pages_ = TRY(Pages::allocate(page_size() + max_write));
  buffer.max_write_ = max_write;
  return buffer;
}

Result<ReplyBuffer> ReplyBuffer::allocate(std::size_t max_payload) {
  ReplyBuffer buffer;
  buffer.pages_ = TRY(Pages::allocate(page_size() + std::max(max_payload, kLeastReplyRoom)));
  return buffer;
}

}  // namespace outboard::fuse
