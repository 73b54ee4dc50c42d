// Where the journal lies: the journal inode's blocks, or an external journal device. Read straight from the device, before
// there is a cache: what recovery will rewrite must not be remembered.
#pragma once

#include "ext4/format/geometry.h"
#include "ext4/format/superblock.h"
#include "jbd2/log.h"

namespace outboard::ext4 {

// Every block of the map is checked: in the file system, outside fixed metadata, mapped without holes, none twice.
Result<jbd2::LogArea> internal_journal(device::BlockDevice &device, const format::Superblock &superblock);
// The device must carry the uuid that the superblock names.
Result<jbd2::LogArea> external_journal(device::BlockDevice &journal_device, const format::Superblock &superblock);

}  // namespace outboard::ext4
