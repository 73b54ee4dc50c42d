// The operations' functions, by the file that holds them. Each decodes its request, calls the Filesystem, and encodes
// the answer; an error it returns becomes the reply.
#pragma once

#include "fuse/operation_table.h"

namespace outboard::fuse::handlers {

// ops_names.cc
Status lookup(Dispatcher &, Request &, Reply &);
Status forget(Dispatcher &, Request &, Reply &);
Status batch_forget(Dispatcher &, Request &, Reply &);
Status make_node(Dispatcher &, Request &, Reply &);
Status make_directory(Dispatcher &, Request &, Reply &);
Status make_symlink(Dispatcher &, Request &, Reply &);
Status create(Dispatcher &, Request &, Reply &);
Status make_temporary(Dispatcher &, Request &, Reply &);
Status link(Dispatcher &, Request &, Reply &);
Status unlink(Dispatcher &, Request &, Reply &);
Status remove_directory(Dispatcher &, Request &, Reply &);
Status rename(Dispatcher &, Request &, Reply &);
Status rename_with_flags(Dispatcher &, Request &, Reply &);
Status read_link(Dispatcher &, Request &, Reply &);

// ops_attributes.cc
Status get_attributes(Dispatcher &, Request &, Reply &);
Status set_attributes(Dispatcher &, Request &, Reply &);
Status extended_stat(Dispatcher &, Request &, Reply &);
Status statistics(Dispatcher &, Request &, Reply &);
Status set_xattr(Dispatcher &, Request &, Reply &);
Status get_xattr(Dispatcher &, Request &, Reply &);
Status list_xattrs(Dispatcher &, Request &, Reply &);
Status remove_xattr(Dispatcher &, Request &, Reply &);

// ops_data.cc
Status open(Dispatcher &, Request &, Reply &);
Status open_directory(Dispatcher &, Request &, Reply &);
Status release(Dispatcher &, Request &, Reply &);
Status read(Dispatcher &, Request &, Reply &);
Status write(Dispatcher &, Request &, Reply &);
Status allocate(Dispatcher &, Request &, Reply &);
Status seek(Dispatcher &, Request &, Reply &);
Status copy_range(Dispatcher &, Request &, Reply &);
Status copy_range_64(Dispatcher &, Request &, Reply &);
Status map_block(Dispatcher &, Request &, Reply &);
Status sync(Dispatcher &, Request &, Reply &);

// ops_directory.cc
Status read_directory(Dispatcher &, Request &, Reply &);
Status read_directory_plus(Dispatcher &, Request &, Reply &);

// ops_control.cc
Status ioctl(Dispatcher &, Request &, Reply &);
Status sync_all(Dispatcher &, Request &, Reply &);
bool is_trace_control(const Request &);
bool is_answered_at_once(const Request &);  // an ioctl that waits for nothing; thawing is the way out of a wait
Status destroy(Dispatcher &, Request &, Reply &);
Status ignore(Dispatcher &, Request &, Reply &);

}  // namespace outboard::fuse::handlers
