// The private ioctls of a mount, issued on its root directory by our own commands. On a plain fuse mount the kernel tells
// the server neither of sync(2) nor of umount(2), so `outboard sync DIR` and `outboard umount DIR` ask for themselves.
// Answered by the transport for root and for the user who mounted, nobody else (EPERM).
#pragma once

#include "base/trace_ring.h"

#include <cstddef>
#include <cstdint>
#include <sys/ioctl.h>

namespace outboard::vfs {

// What kControlIdentify fills in: is this directory the root of one of our mounts, and which process serves it?
struct ControlIdentity {
  char program[8];           // "outboard", not terminated
  std::uint32_t version;     // of this interface: kControlVersion
  std::uint32_t server_pid;  // in the server's pid namespace
};
static_assert(sizeof(ControlIdentity) == 16);

// What kControlRequests fills in: how many requests of each FUSE opcode the server has received since the mount; at 0 those
// that are no operation of the protocol. The question itself, an IOCTL, is counted.
struct ControlRequests {
  static constexpr std::size_t kOpcodes = 64;
  std::uint64_t received[kOpcodes];
};
static_assert(sizeof(ControlRequests) == 512);

inline constexpr char kControlProgram[] = "outboard";
inline constexpr std::uint32_t kControlVersion = 1;

inline constexpr unsigned kControlMagic = 0xB7;
// Everything to disk: returns when all that was written before is durable. ESHUTDOWN after a shutdown.
inline constexpr std::uint32_t kControlSync = _IO(kControlMagic, 1);
// As EXT4_IOC_SHUTDOWN below, but with the flags where the protocol carries them.
inline constexpr std::uint32_t kControlShutdown = _IOW(kControlMagic, 3, std::uint32_t);
inline constexpr std::uint32_t kControlIdentify = _IOR(kControlMagic, 2, ControlIdentity);
inline constexpr std::uint32_t kControlRequests = _IOR(kControlMagic, 7, ControlRequests);

// Freeze and thaw (docs/vfs.md). EBUSY: frozen already; EINVAL: not frozen.
struct ControlFreeze {
  std::uint32_t timeout_ms;   // in: for each of the two tries
  std::uint32_t hold;         // in: 1: thaw when the calling process ends
  std::uint32_t timed_out;    // out: 1: not frozen, and `held_by` says who was not done
  char held_by[500];          // out: text, terminated
};
static_assert(sizeof(ControlFreeze) == 512);
inline constexpr std::uint32_t kControlFreeze = _IOWR(kControlMagic, 8, ControlFreeze);
inline constexpr std::uint32_t kControlThaw = _IO(kControlMagic, 9);
inline constexpr std::uint32_t kControlIsFrozen = _IOR(kControlMagic, 10, std::uint32_t);  // 1, or about to be; 0

// Tracing (docs/tracing.md): begin recording the layers whose bits are set (EBUSY: somebody else is); take what there is,
// again and again, at least every few seconds (ESTALE: recording has ended); end.
struct ControlTraceBatch {
  std::uint64_t now_ns;  // the server's CLOCK_MONOTONIC, before it looked
  std::uint64_t lost;    // records, since the beginning
  std::uint32_t count;
  std::uint32_t padding;
  outboard::trace::Record records[292];  // as many as the number of an ioctl can say
};
static_assert(sizeof(ControlTraceBatch) < 1 << 14);
inline constexpr std::uint32_t kControlTraceStart = _IOW(kControlMagic, 4, std::uint32_t);
inline constexpr std::uint32_t kControlTraceTake = _IOR(kControlMagic, 5, ControlTraceBatch);
inline constexpr std::uint32_t kControlTraceStop = _IO(kControlMagic, 6);

// ext4's own, on any file or directory, also for root and the user who mounted only. Its number says that the kernel
// gives the caller an answer, while in truth the caller hands in a word of kGoing...
inline constexpr std::uint32_t kExt4Shutdown = _IOR('X', 125, std::uint32_t);
inline constexpr std::uint32_t kGoingFlush = 0;  // EXT4_GOING_FLAGS_DEFAULT
inline constexpr std::uint32_t kGoingLog = 1;    // EXT4_GOING_FLAGS_LOGFLUSH
inline constexpr std::uint32_t kGoingNow = 2;    // EXT4_GOING_FLAGS_NOLOGFLUSH

}  // namespace outboard::vfs
