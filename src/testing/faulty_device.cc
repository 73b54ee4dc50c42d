#include "testing/faulty_device.h"

#include "testing/waits.h"

#include <algorithm>
#include <thread>

namespace outboard::testing {

namespace {

constexpr std::uint64_t kSector = 512;

bool touches(std::uint64_t offset, std::uint64_t length, std::uint64_t from, std::uint64_t span) {
  const std::uint64_t end = length > FaultyDevice::kAll - offset ? FaultyDevice::kAll : offset + length;
  const std::uint64_t fault_end = span > FaultyDevice::kAll - from ? FaultyDevice::kAll : from + span;
  return offset < fault_end && from < std::max(end, offset + (length == 0 ? 1 : 0));
}

const char *const kInjected = "injected fault";

}  // namespace

// Keeps the object alive (its destructor waits) for as long as a request is inside.
class FaultyDevice::InFlight {
public:
  explicit InFlight(FaultyDevice &device) : device_(device) {
    MutexLock lock(device_.mutex_);
    ++device_.in_flight_;
  }
  ~InFlight() {
    MutexLock lock(device_.mutex_);
    --device_.in_flight_;
    device_.changed_.notify_all();
  }
  InFlight(const InFlight &) = delete;
  InFlight &operator=(const InFlight &) = delete;

private:
  FaultyDevice &device_;
};

FaultyDevice::~FaultyDevice() {
  MutexLock lock(mutex_);
  holds_.fill(false);
  changed_.notify_all();
  while (in_flight_ > 0) changed_.wait(mutex_, kTestLetsGo);  // until the requests we have just released are out
}

void FaultyDevice::add_fault(const Fault &fault) {
  MutexLock lock(mutex_);
  faults_.push_back(fault);
}

void FaultyDevice::tell_lies(const Lies &lies) {
  MutexLock lock(mutex_);
  random_.seed(lies.seed);
  lies_.push_back(lies);
}

void FaultyDevice::lose_changes(bool lose) {
  MutexLock lock(mutex_);
  lose_ = lose;
}

void FaultyDevice::delay(Op op, std::chrono::milliseconds time) {
  MutexLock lock(mutex_);
  delays_[index(op)] = time;
}

void FaultyDevice::clear_faults() {
  MutexLock lock(mutex_);
  faults_.clear();
  lies_.clear();
  lose_ = false;
  delays_ = {};
}

void FaultyDevice::hold(Op op) {
  MutexLock lock(mutex_);
  holds_[index(op)] = true;
}

void FaultyDevice::release(Op op) {
  MutexLock lock(mutex_);
  holds_[index(op)] = false;
  changed_.notify_all();
}

void FaultyDevice::release_all() {
  MutexLock lock(mutex_);
  holds_.fill(false);
  changed_.notify_all();
}

bool FaultyDevice::wait_until_held(std::size_t count, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  MutexLock lock(mutex_);
  while (held_ < count) {
    if (!changed_.wait_until(mutex_, deadline) && held_ < count) return false;  // for the requests to come to the hold
  }
  return true;
}

std::uint64_t FaultyDevice::requests(Op op) const {
  MutexLock lock(mutex_);
  return requests_[index(op)];
}

std::uint64_t FaultyDevice::lies_told() const {
  MutexLock lock(mutex_);
  return lies_told_;
}

FaultyDevice::Verdict FaultyDevice::admit(Op op, std::uint64_t offset, std::uint64_t length) {
  MutexLock lock(mutex_);
  ++requests_[index(op)];
  const Verdict verdict = judge(op, offset, length);
  if (holds_[index(op)]) {
    ++held_;
    changed_.notify_all();
    while (holds_[index(op)]) changed_.wait(mutex_, kTestLetsGo);  // stuck until the test releases us
    --held_;
  }
  const std::chrono::milliseconds pause = delays_[index(op)];
  lock.unlock();
  if (pause.count() > 0) std::this_thread::sleep_for(pause);
  return verdict;
}

FaultyDevice::Verdict FaultyDevice::judge(Op op, std::uint64_t offset, std::uint64_t length) {
  Verdict verdict;
  verdict.lost = lose_;
  for (Fault &fault : faults_) {
    if (fault.op != op || !touches(offset, length, fault.offset, fault.length)) continue;
    if (fault.skip > 0) {
      --fault.skip;
      continue;
    }
    if (fault.times == 0 || verdict.code != 0) continue;
    if (fault.times != kAll) --fault.times;
    verdict.code = fault.code;
    verdict.partial = fault.partial;
  }
  return verdict;
}

void FaultyDevice::maybe_lie(std::uint64_t offset, std::span<std::byte> data) {
  if (data.empty()) return;
  MutexLock lock(mutex_);
  for (const Lies &lies : lies_) {
    if (!touches(offset, data.size(), lies.offset, lies.length) || random_() % lies.one_in != 0) continue;
    // Only bytes of the range are touched.
    const std::uint64_t from = lies.offset > offset ? lies.offset - offset : 0;
    const std::uint64_t room = data.size() - from;
    const std::uint64_t left = lies.length > kAll - lies.offset ? room : lies.offset + lies.length - (offset + from);
    const std::span<std::byte> target = data.subspan(from, std::min(room, left));
    switch (random_() % 4) {
    case 0:
      for (int i = 0; i < 3; ++i) target[random_() % target.size()] ^= static_cast<std::byte>(1u << (random_() % 8));
      break;
    case 1: std::ranges::fill(target, std::byte{0}); break;
    case 2:
      for (std::byte &b : target) b = static_cast<std::byte>(random_());
      break;
    default: std::ranges::rotate(target, target.begin() + static_cast<std::ptrdiff_t>(random_() % target.size()));
    }
    ++lies_told_;
  }
}

Status FaultyDevice::read(std::uint64_t offset, std::span<std::byte> data) {
  const InFlight guard(*this);
  const Verdict verdict = admit(Op::read, offset, data.size());
  if (verdict.code != 0) return fail(Error::system(verdict.code, kInjected));
  TRY(lower_.read(offset, data));
  maybe_lie(offset, data);
  return {};
}

Status FaultyDevice::write(std::uint64_t offset, std::span<const std::byte> data) {
  const iovec piece = {const_cast<std::byte *>(data.data()), data.size()};
  return write_gather(offset, {&piece, 1});
}

Status FaultyDevice::write_gather(std::uint64_t offset, std::span<const iovec> pieces) {
  const InFlight guard(*this);
  std::uint64_t length = 0;
  for (const iovec &piece : pieces) length += piece.iov_len;
  const Verdict verdict = admit(Op::write, offset, length);
  if (verdict.code != 0) {
    // The first half, piece by piece; how this attempt ends does not matter.
    std::uint64_t left = verdict.partial ? length / 2 / kSector * kSector : 0;
    for (const iovec &piece : pieces) {
      const std::uint64_t part = std::min<std::uint64_t>(left, piece.iov_len);
      if (part == 0) break;
      static_cast<void>(lower_.write(offset, {static_cast<const std::byte *>(piece.iov_base), part}));
      offset += part;
      left -= part;
    }
    return fail(Error::system(verdict.code, kInjected));
  }
  if (verdict.lost) return {};
  return lower_.write_gather(offset, pieces);
}

Status FaultyDevice::flush() {
  const InFlight guard(*this);
  const Verdict verdict = admit(Op::flush, 0, 0);
  if (verdict.code != 0) return fail(Error::system(verdict.code, kInjected));
  return lower_.flush();
}

Status FaultyDevice::discard(std::uint64_t offset, std::uint64_t length) {
  const InFlight guard(*this);
  const Verdict verdict = admit(Op::discard, offset, length);
  if (verdict.code != 0) return fail(Error::system(verdict.code, kInjected));
  if (verdict.lost) return {};
  return lower_.discard(offset, length);
}

Status FaultyDevice::zero(std::uint64_t offset, std::uint64_t length) {
  const InFlight guard(*this);
  const Verdict verdict = admit(Op::zero, offset, length);
  if (verdict.code != 0) return fail(Error::system(verdict.code, kInjected));
  if (verdict.lost) return {};
  return lower_.zero(offset, length);
}

}  // namespace outboard::testing
