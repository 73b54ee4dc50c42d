#include "fuse/negotiation.h"

#include "base/units.h"

#include <algorithm>
#include <cstring>

namespace outboard::fuse {

namespace {

namespace flag = wire::init_flag;

// Wanted wherever the kernel offers it. Why, where the name does not say it, in docs/fuse.md.
constexpr std::uint64_t kWanted =
    flag::async_read | flag::export_support | flag::big_writes | flag::dont_mask | flag::has_ioctl_dir |
    flag::do_readdirplus | flag::readdirplus_auto | flag::async_dio | flag::no_open_support | flag::parallel_dirops |
    flag::posix_acl | flag::abort_error | flag::max_pages | flag::cache_symlinks | flag::no_opendir_support |
    flag::handle_killpriv_v2 | flag::setxattr_ext | flag::init_ext | flag::direct_io_allow_mmap;

constexpr std::uint16_t kPagesWithoutMaxPages = 32;

}  // namespace

Result<wire::InitIn> decode_init(std::span<const std::byte> body) {
  if (body.size() < wire::kInitInLeast) return fail(Error::user(EINVAL, "INIT: too short"));
  wire::InitIn in{};
  std::memcpy(&in, body.data(), std::min(sizeof in, body.size()));
  // Flags beyond bit 31 exist only where the kernel says that it sends them.
  if ((in.flags & flag::init_ext) == 0) in.flags2 = 0;
  return in;
}

bool needs_other_major(const wire::InitIn &offer) { return offer.major > wire::kMajor; }

wire::InitOut refuse_major() {
  wire::InitOut out{};
  out.major = wire::kMajor;
  out.minor = wire::kMinor;
  return out;
}

Result<Agreement> agree(const wire::InitIn &offer, const Wishes &wishes, std::size_t page_size) {
  if (offer.major < wire::kMajor || (offer.major == wire::kMajor && offer.minor < wire::kLeastMinor))
    return fail(Error::system(EPROTONOSUPPORT, "the kernel's FUSE protocol is older than 7.31 (Linux 5.5)"));

  const std::uint64_t offered = offer.flags | (std::uint64_t{offer.flags2} << 32);
  std::uint64_t wanted = kWanted;
  if (wishes.writeback_cache) wanted |= flag::writeback_cache;
  Agreement agreement;
  agreement.minor = std::min(offer.minor, wire::kMinor);
  agreement.flags = offered & wanted;

  const auto page = static_cast<std::uint32_t>(page_size);
  std::uint32_t pages = divide_up(wishes.max_write, page);
  pages = agreement.has(flag::max_pages) ? std::min<std::uint32_t>(pages, 0xffffu)
                                         : std::min<std::uint32_t>(pages, kPagesWithoutMaxPages);
  agreement.max_write = pages * page;

  wire::InitOut &out = agreement.answer;
  out.major = wire::kMajor;
  out.minor = wire::kMinor;
  out.max_readahead = std::max(offer.max_readahead, wishes.max_readahead);
  out.flags = static_cast<std::uint32_t>(agreement.flags);
  out.flags2 = static_cast<std::uint32_t>(agreement.flags >> 32);
  out.max_background = wishes.max_background;
  out.congestion_threshold = wishes.congestion_threshold;
  out.max_write = agreement.max_write;
  out.time_granularity = 1;
  out.max_pages = static_cast<std::uint16_t>(pages);
  return agreement;
}

}  // namespace outboard::fuse
