// What happens when something is found broken: a line in the log, a record in the superblock, the volume's policy.
//
// Callers may hold locks and an open handle, so nothing here waits for the journal. With the policy `continue` the record goes
// into the superblock with the next commit; the other policies abort the journal first, and the record is then written straight
// to the device, best effort, unless somebody else had aborted it before (a shutdown must leave the device alone).
#include "base/log.h"
#include "ext4/volume_impl.h"

#include <ctime>
#include <string_view>

namespace outboard::ext4 {
namespace {

constexpr std::uint32_t kLinesPerSecond = 10;

// "Status outboard::ext4::GroupTable::read_blocks(...)" -> "read_blocks"
std::string_view short_name(std::string_view function) {
  function = function.substr(0, function.find('('));
  const std::size_t at = function.find_last_of(": ");
  return at == std::string_view::npos ? function : function.substr(at + 1);
}

}  // namespace

void Volume::Impl::put_error(std::span<std::byte> raw, const PendingError &pending) {
  format::ErrorRecord record;
  record.time = pending.time;
  if (pending.error.inode() != Error::kNowhere) record.inode = InodeNumber(static_cast<std::uint32_t>(pending.error.inode()));
  if (pending.error.block() != Error::kNowhere) record.block = BlockNumber(pending.error.block());
  record.function = short_name(pending.error.where().function_name());
  record.line = pending.error.where().line();
  record.code = pending.error.code();
  format::record_error(raw, record);
  auto &count = edit_as<format::RawSuperblock>(raw).s_error_count;
  const std::uint32_t more = pending.count - 1;
  count.set(more < ~std::uint32_t{0} - count.get() ? count.get() + more : ~std::uint32_t{0});
}

std::optional<Volume::Impl::PendingError> Volume::Impl::take_pending_error() {
  MutexLock lock(error_lock);
  return std::exchange(pending_error, std::nullopt);
}

void Volume::Impl::log_error(const Error &error) {
  std::uint32_t left_out = 0;
  {
    MutexLock lock(error_lock);
    const std::int64_t second = std::time(nullptr);
    if (second != log_second) {
      log_second = second;
      logged_this_second = 0;
      left_out = std::exchange(suppressed, 0);
    }
    if (++logged_this_second > kLinesPerSecond) {
      ++suppressed;
      return;
    }
  }
  if (left_out != 0) outboard::log(LogLevel::error, "ext4: {} more errors were not logged", left_out);
  outboard::log(LogLevel::error, "ext4: {} ({}:{})", error.message(), short_name(error.where().function_name()), error.where().line());
}

void Volume::Impl::report(const Error &error) {
  if (!error.is_corrupt() && error.kind() != ErrorKind::io) return;
  log_error(error);
  // A volume mounted for reading is not written to, whatever is wrong with it; nor is one that is not open yet.
  if (read_only || !journal || failed.load(std::memory_order_relaxed)) return;
  {
    MutexLock lock(error_lock);
    const std::uint32_t count = pending_error ? pending_error->count + 1 : 1;
    pending_error.emplace(PendingError{error, std::time(nullptr), count});
  }
  if (policy == ErrorPolicy::continue_) return;
  stop_changes(error);
}

void Volume::Impl::stop_changes(const Error &error) {
  if (failed.exchange(true) || journal->aborted()) return;
  journal->abort(error);
  outboard::log(LogLevel::error, "ext4: no changes are accepted from now on, as errors={} asks",
                policy == ErrorPolicy::panic ? "panic" : "remount-ro");
  RawSuperblockBytes bytes;
  if (!device.read(format::kSuperblockOffset, bytes) || !format::superblock_checksum_matches(bytes)) return;
  if (auto pending = take_pending_error()) put_error(bytes, *pending);
  if (Status status = write_superblock(bytes); !status)
    outboard::log(LogLevel::error, "ext4: the error could not be recorded: {}", status.error().message());
}

}  // namespace outboard::ext4
