// Bytes that say where they belong: every eight of them name a file, the operation that wrote them, and their offset. So
// bytes in a wrong place say whose they are, and a device can tell a file's data from metadata.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace outboard::crash_explorer {

// What was on the disk before the file system's files were: no file may ever show it.
inline constexpr unsigned kStale = 0xfff;

// The bytes that operation `operation` (below 2^16) writes at `offset` (below 2^23) of file `file` (below
// kStale).
std::string tagged(unsigned file, std::uint64_t operation, std::uint64_t offset, std::size_t length);

// Whose bytes stand here: "zeros", "file 3, operation 17, offset 0x1000", "from before the file system's files".
std::string origin(std::span<const std::byte> bytes, std::uint64_t offset);

// Does a block hold tagged bytes? `bytes` begins on a multiple of eight of the file.
bool holds_tagged(std::span<const std::byte> bytes);

}  // namespace outboard::crash_explorer
