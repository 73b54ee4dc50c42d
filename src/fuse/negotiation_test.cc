#include "fuse/negotiation.h"

#include "fuse/message_builder.h"
#include "testing/expect.h"

#include <gtest/gtest.h>

namespace outboard::fuse {
namespace {

namespace flag = wire::init_flag;

wire::InitIn offer_of(std::uint32_t minor, std::uint64_t flags) {
  return {.major = 7,
          .minor = minor,
          .max_readahead = 131072,
          .flags = static_cast<std::uint32_t>(flags),
          .flags2 = static_cast<std::uint32_t>(flags >> 32),
          .unused = {}};
}

TEST(Negotiation, TakesFromLinux618WhatItCanUse) {
  ASSIGN_OK(const Agreement agreement, agree(offer_of(45, ~0ull), {}, 4096));
  EXPECT_EQ(agreement.minor, 45u);
  EXPECT_EQ(agreement.max_write, 1u << 20);
  EXPECT_EQ(agreement.answer.max_pages, 256);
  EXPECT_EQ(agreement.answer.max_background, 65535);
  EXPECT_EQ(agreement.answer.congestion_threshold, 192);
  EXPECT_EQ(agreement.answer.time_granularity, 1u);
  EXPECT_GE(agreement.answer.max_readahead, 4u << 20);
  EXPECT_TRUE(agreement.has(flag::writeback_cache | flag::parallel_dirops | flag::posix_acl | flag::handle_killpriv_v2 |
                            flag::setxattr_ext | flag::readdirplus_auto | flag::do_readdirplus | flag::dont_mask |
                            flag::direct_io_allow_mmap | flag::export_support | flag::cache_symlinks));
  EXPECT_EQ(agreement.answer.flags2, static_cast<std::uint32_t>(flag::direct_io_allow_mmap >> 32));
  // Locks stay with the kernel, nobody else changes our data, and older kill-privilege rules must not be on as well.
  for (const std::uint64_t unwanted :
       {flag::posix_locks, flag::flock_locks, flag::auto_inval_data, flag::explicit_inval_data, flag::handle_killpriv,
        flag::atomic_o_trunc, flag::no_export_support, flag::over_io_uring, flag::passthrough, flag::submounts,
        flag::allow_idmap, flag::security_context})
    EXPECT_EQ(agreement.flags & unwanted, 0u);
}

TEST(Negotiation, NeverClaimsWhatWasNotOffered) {
  ASSIGN_OK(const Agreement agreement, agree(offer_of(31, flag::async_read | flag::big_writes), {}, 4096));
  EXPECT_EQ(agreement.flags, flag::async_read | flag::big_writes);
  EXPECT_EQ(agreement.max_write, 32u * 4096);
  EXPECT_EQ(agreement.minor, 31u);
}

TEST(Negotiation, RefusesKernelsThatAreTooOld) {
  EXPECT_ERROR(agree(offer_of(30, ~0ull), {}, 4096), EPROTONOSUPPORT);
  wire::InitIn ancient = offer_of(45, ~0ull);
  ancient.major = 6;
  EXPECT_ERROR(agree(ancient, {}, 4096), EPROTONOSUPPORT);
}

TEST(Negotiation, AsksALaterMajorVersionForOurs) {
  wire::InitIn later = offer_of(0, 0);
  later.major = 8;
  EXPECT_TRUE(needs_other_major(later));
  EXPECT_EQ(refuse_major().major, 7u);
  EXPECT_FALSE(needs_other_major(offer_of(45, 0)));
}

TEST(Negotiation, LeavesTheWritebackCacheOffWhenAsked) {
  ASSIGN_OK(const Agreement agreement, agree(offer_of(45, ~0ull), {.writeback_cache = false}, 4096));
  EXPECT_FALSE(agreement.has(flag::writeback_cache));
}

TEST(Negotiation, CountsPagesOfTheMachine) {
  ASSIGN_OK(const Agreement agreement, agree(offer_of(45, ~0ull), {}, 65536));
  EXPECT_EQ(agreement.answer.max_pages, 16);
  EXPECT_EQ(agreement.max_write, 1u << 20);
}

TEST(Negotiation, ReadsOffersOfAllLengths) {
  const testing::Bytes whole = testing::bytes_of(offer_of(45, ~0ull));
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    const auto in = decode_init(std::span(whole).first(size));
    EXPECT_EQ(in.has_value(), size >= wire::kInitInLeast);
  }
  // Without INIT_EXT the second word of flags means nothing.
  ASSIGN_OK(const wire::InitIn in, decode_init(testing::bytes_of(offer_of(45, ~0ull & ~flag::init_ext))));
  EXPECT_EQ(in.flags2, 0u);
}

}  // namespace
}  // namespace outboard::fuse
