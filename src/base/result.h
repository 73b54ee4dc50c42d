// Errors as values. Every fallible function returns Result<T>; nothing throws across a layer.
//
// An Error knows its family, the errno it becomes at the mount, a static text naming the failed check,
// and the place on disk and in the source where it was found.
// errno values enter in device/ (Error::system) and leave in fuse/ (Error::code) only; the layers between
// use the named makers below.
#pragma once

#include <cerrno>
#include <cstdint>
#include <expected>
#include <source_location>
#include <string>
#include <utility>

namespace outboard {

enum class ErrorKind : std::uint8_t {
  user,         // the caller asked for something that cannot be: ENOENT, EEXIST, ENOSPC ...
  unsupported,  // a valid file system or request that this program does not handle
  corrupt,      // the disk's contents contradict themselves
  bad_checksum, // corrupt, seen by a checksum
  io,           // the device or the host failed
};

class [[nodiscard]] Error {
public:
  static constexpr std::uint64_t kNowhere = ~std::uint64_t{0};

  // `what` must be a string literal (it is kept by pointer): the rule that was broken or the thing refused.
  static Error user(int code, const char *what = "", std::source_location at = std::source_location::current()) {
    return {ErrorKind::user, code, what, at};
  }
  static Error unsupported(const char *what, std::source_location at = std::source_location::current()) {
    return {ErrorKind::unsupported, EOPNOTSUPP, what, at};
  }
  static Error corrupt(const char *what, std::source_location at = std::source_location::current()) {
    return {ErrorKind::corrupt, EUCLEAN, what, at};
  }
  static Error bad_checksum(const char *what, std::source_location at = std::source_location::current()) {
    return {ErrorKind::bad_checksum, EUCLEAN, what, at};
  }
  static Error system(int code, const char *what, std::source_location at = std::source_location::current()) {
    return {ErrorKind::io, code, what, at};
  }

  // Where on the disk: chained onto a maker, `Error::corrupt("...").in_block(b).of_inode(i)`.
  Error &&in_block(std::uint64_t block) && {
    block_ = block;
    return std::move(*this);
  }
  Error &&of_inode(std::uint64_t inode) && {
    inode_ = inode;
    return std::move(*this);
  }

  ErrorKind kind() const { return kind_; }
  bool is_corrupt() const { return kind_ == ErrorKind::corrupt || kind_ == ErrorKind::bad_checksum; }
  int code() const { return code_; }  // a positive errno value
  bool is(int code) const { return code_ == code; }
  const char *what() const { return what_; }
  std::uint64_t block() const { return block_; }  // file-system block, kNowhere when unknown
  std::uint64_t inode() const { return inode_; }  // inode number, kNowhere when unknown
  const std::source_location &where() const { return where_; }

  // One line for people: "Structure needs cleaning: extent header magic (inode 12, block 345)".
  std::string message() const;

private:
  Error(ErrorKind kind, int code, const char *what, std::source_location at)
      : kind_(kind), code_(code), what_(what), where_(at) {}

  ErrorKind kind_;
  int code_;
  const char *what_;
  std::uint64_t block_ = kNowhere;
  std::uint64_t inode_ = kNowhere;
  std::source_location where_;
};

template <class T> using Result = std::expected<T, Error>;
using Status = Result<void>;

// Shorthand for `return std::unexpected(Error::...)`.
inline std::unexpected<Error> fail(Error error) { return std::unexpected<Error>(std::move(error)); }

}  // namespace outboard

// The value of a Result, or return its error from the enclosing function (which returns some Result).
// Works for Status too: `TRY(device.flush());`
#define TRY(expression)                                                                       \
  ({                                                                                          \
    auto try_result_ = (expression);                                                          \
    if (!try_result_) [[unlikely]]                                                            \
      return ::std::unexpected<::outboard::Error>(::std::move(try_result_).error());          \
    *::std::move(try_result_);                                                                \
  })
