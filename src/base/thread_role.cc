#include "base/thread_role.h"

#include <utility>

namespace outboard {
namespace {

thread_local ThreadRole current = ThreadRole::client;

}  // namespace

ThreadRole thread_role() { return current; }

ThreadRoleScope::ThreadRoleScope(ThreadRole role) : before_(std::exchange(current, role)) {}
ThreadRoleScope::~ThreadRoleScope() { current = before_; }

}  // namespace outboard
