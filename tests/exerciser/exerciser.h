// Random operations on a subject and on a model of its files, compared as they go.
//
// What is checked: the result of every operation; the size after it; what reads and SEEK_DATA/SEEK_HOLE say; around
// some changes the bytes beside them; every file as a whole now and then, after each remount, and after each crash
// (before which everything is synced: what fsync or fdatasync has acknowledged must be there). On a disk that may fill,
// an operation that needs space may fail with ENOSPC or stop short: then each byte of its range is as before or as
// asked, and everything else as it was. What has succeeded stays, and no sync fails. The checks draw from a random
// source of their own, so that how much is checked does not change what is done.
#pragma once

#include "exerciser/model.h"
#include "exerciser/subject.h"

#include <array>
#include <deque>
#include <random>
#include <string>
#include <vector>

namespace outboard::exerciser {

class Exerciser {
public:
  // `verify_every`: operations between checks of all contents.
  Exerciser(Subject &subject, const Traits &traits, std::uint64_t seed, std::uint64_t verify_every)
      : subject_(subject), traits_(traits), seed_(seed), verify_every_(verify_every), source_(traits, seed),
        checks_(seed + 1), model_(traits.files), buffer_(traits.max_size) {}

  // So many more operations, and a look at everything. "", or what went wrong: seed, operation, the last operations,
  // expected and found.
  std::string run(std::uint64_t operations);
  const Model &model() const { return model_; }
  std::uint64_t short_of_space() const { return short_of_space_; }
  std::uint64_t succeeded(Operation::Kind kind) const { return succeeded_[static_cast<std::size_t>(kind)]; }

private:
  std::string perform(const Operation &o);
  std::string read(const Operation &o);
  std::string seek(const Operation &o);
  std::string crash();
  std::string settle(const Operation &o, const Status &status);
  std::string reconcile(const Operation &o);
  std::string check_after(const Operation &o);
  std::string verify_all();
  std::string check_size(unsigned file);
  std::string verify(unsigned file, Operation::Way way, std::uint64_t offset, std::uint64_t length);
  std::span<const std::byte> data_for(const Operation &o);
  std::string complaint(const std::string &what) const;

  Subject &subject_;
  const Traits traits_;
  const std::uint64_t seed_, verify_every_;
  OperationSource source_;
  std::mt19937_64 checks_;
  Model model_;
  std::vector<std::byte> buffer_;
  std::uint64_t number_ = 0;  // of the operation under way, from 1
  std::array<std::uint64_t, kKinds> succeeded_{};
  std::uint64_t short_of_space_ = 0;
  static constexpr std::size_t kRemembered = 20;
  std::deque<std::string> history_;
};

}  // namespace outboard::exerciser
