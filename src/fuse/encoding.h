// File-system values to wire structures and back.
#pragma once

#include "base/result.h"
#include "fuse/wire.h"
#include "vfs/filesystem.h"

namespace outboard::fuse {

// The file system is exclusively ours, so what the kernel has learned stays true until the kernel itself changes it.
inline constexpr std::uint64_t kForever = ~std::uint64_t{0};  // seconds

wire::Attr encode(const vfs::Attributes &attributes);
wire::EntryOut encode(const vfs::Entry &entry);
wire::AttrOut encode_reply(const vfs::Attributes &attributes);
wire::StatxOut encode_statx(const vfs::Attributes &attributes);
wire::StatfsOut encode(const vfs::Statistics &statistics);
// "There is no such name", to be remembered.
wire::EntryOut encode_absence();

// EINVAL for nanoseconds of a second or more.
Result<vfs::SetAttributes> decode(const wire::SetattrIn &in);

// Device numbers: 12 bits of major, 20 of minor in 32 (the kernel's packing) against makedev(3)'s.
std::uint32_t pack_device(std::uint32_t device_major, std::uint32_t device_minor);
std::uint64_t makedev_from_packed(std::uint32_t packed);

}  // namespace outboard::fuse
