// Files and devices of the host that have nothing behind them which could fail to answer.
#pragma once

namespace outboard::device {

// The descriptor is a file in tmpfs or ramfs, or a loop device over one. False when in doubt.
bool is_in_memory(int fd);

}  // namespace outboard::device
