#include "crash/promises.h"

#include "base/checksum.h"
#include "base/unique_fd.h"

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <optional>
#include <random>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace outboard::tests {

namespace {

struct Header {
  std::uint32_t version;
  std::uint32_t length;    // of the whole contents
  std::uint32_t checksum;  // of what follows the header
};

std::vector<char> contents(std::uint32_t version, std::mt19937_64 &random) {
  const std::size_t length = sizeof(Header) + random() % (random() % 8 == 0 ? 200000 : 9000);
  std::vector<char> bytes(length);
  for (std::size_t i = sizeof(Header); i < length; ++i) bytes[i] = static_cast<char>(random());
  Header header{version, static_cast<std::uint32_t>(length), crc32c(~0u, bytes.data() + sizeof(Header), length - sizeof(Header))};
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

// The version of complete contents, or nothing.
std::optional<std::uint32_t> version_of(const std::string &path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::vector<char> bytes(300000);
  std::size_t size = 0;
  ssize_t got;
  while (size < bytes.size() && (got = ::read(fd.get(), bytes.data() + size, bytes.size() - size)) > 0) size += static_cast<std::size_t>(got);
  Header header{};
  if (size < sizeof header) return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.length != size || header.checksum != crc32c(~0u, bytes.data() + sizeof header, size - sizeof header)) return std::nullopt;
  return header.version;
}

constexpr std::size_t kRecord = 700;
void fill_record(std::array<char, kRecord> &record, std::uint32_t number) {
  record.fill(static_cast<char>('a' + number % 26));
  std::memcpy(record.data(), &number, sizeof number);
}

// True when the file at `path` is durable with these contents.
bool put(const std::string &path, const std::vector<char> &bytes) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) return false;
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t wrote = ::write(fd.get(), bytes.data() + done, std::min<std::size_t>(bytes.size() - done, 4096));
    if (wrote <= 0) return false;
    done += static_cast<std::size_t>(wrote);
  }
  return ::fsync(fd.get()) == 0;
}

bool sync_directory(const std::string &path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd && ::fsync(fd.get()) == 0;
}

}  // namespace

Workload::Workload(std::string root) : root_(std::move(root)) {
  void *const memory = ::mmap(nullptr, sizeof(Promised), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  promised_ = new (memory) Promised{};
}

Workload::~Workload() {
  stop();
  ::munmap(promised_, sizeof(Promised));
}

void Workload::prepare() {
  for (unsigned worker = 0; worker < kWorkers; ++worker) ::mkdir(fmt::format("{}/w{}", root_, worker).c_str(), 0755);
}

void Workload::start(std::uint64_t seed) {
  for (unsigned worker = 0; worker < kWorkers; ++worker) {
    const pid_t child = ::fork();
    if (child == 0) work(worker, seed * kWorkers + worker);
    children_.push_back(child);
  }
}

void Workload::stop() {
  for (pid_t child : children_) ::kill(child, SIGKILL);
  for (pid_t child : children_) ::waitpid(child, nullptr, 0);
  children_.clear();
}

// Ends at the first failure: the mount is gone.
void Workload::work(unsigned worker, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const std::string home = fmt::format("{}/w{}", root_, worker);
  const std::string log = home + "/log";
  for (;;) {
    promised_->operations[worker]++;
    switch (random() % 6) {
    case 0:
    case 1: {  // replace by rename, the way programs save files
      const unsigned file = static_cast<unsigned>(random() % kFiles);
      auto &promise = promised_->versions[worker][file];
      const std::uint32_t version = promise + 1;
      const std::string path = fmt::format("{}/f{}", home, file);
      if (!put(path + ".tmp", contents(version, random))) ::_exit(0);
      if (::rename((path + ".tmp").c_str(), path.c_str()) != 0 || !sync_directory(home)) ::_exit(0);
      promise = version;
      break;
    }
    case 2: {  // append to a log
      const std::uint32_t number = promised_->records[worker];
      std::array<char, kRecord> record;
      fill_record(record, number);
      const UniqueFd fd(::open(log.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
      if (!fd || ::pwrite(fd.get(), record.data(), record.size(), static_cast<off_t>(number * kRecord)) != kRecord) ::_exit(0);
      if (::fsync(fd.get()) != 0) ::_exit(0);
      promised_->records[worker] = number + 1;
      break;
    }
    case 3: {  // hard links come and go; the newest is synced through its directory
      const std::uint32_t number = promised_->names[worker];
      const std::string base = home + "/linked";
      const UniqueFd fd(::open(base.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
      if (!fd) ::_exit(0);
      ::unlink(fmt::format("{}.{}", base, number - 1).c_str());
      if (::link(base.c_str(), fmt::format("{}.{}", base, number + 1).c_str()) != 0 && errno != EEXIST) ::_exit(0);
      if (!sync_directory(home)) ::_exit(0);
      promised_->names[worker] = number + 1;
      break;
    }
    default: {  // load that nobody relies on: trees that grow and go, files that shrink, holes
      const std::string junk = fmt::format("{}/junk{}", home, random() % 4);
      ::mkdir(junk.c_str(), 0755);
      for (unsigned i = 0; i < 20; ++i) {
        const std::string path = fmt::format("{}/{}", junk, random() % 60);
        const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
        if (!fd) break;
        const std::vector<char> bytes = contents(0, random);
        if (::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(random() % 500000)) < 0) ::_exit(0);
        if (random() % 3 == 0 && ::ftruncate(fd.get(), static_cast<off_t>(random() % 100000)) != 0) ::_exit(0);
        if (random() % 4 == 0) ::unlink(path.c_str());
        if (random() % 6 == 0) ::fallocate(fd.get(), 0, 0, static_cast<off_t>(random() % 300000 + 1));
      }
      if (random() % 5 == 0) {
        for (unsigned i = 0; i < 60; ++i) ::unlink(fmt::format("{}/{}", junk, i).c_str());
        ::rmdir(junk.c_str());
      }
    }
    }
  }
}

std::vector<std::string> Workload::broken_promises(const std::string &root) const {
  std::vector<std::string> broken;
  for (unsigned worker = 0; worker < kWorkers; ++worker) {
    const std::string home = fmt::format("{}/w{}", root, worker);
    for (unsigned file = 0; file < kFiles; ++file) {
      const std::uint32_t promised = promised_->versions[worker][file];
      if (promised == 0) continue;
      const std::string path = fmt::format("{}/f{}", home, file);
      const std::optional<std::uint32_t> found = version_of(path);
      // One version more may have become durable without the worker having heard of it.
      if (!found) broken.push_back(fmt::format("{}: missing or torn; version {} was promised", path, promised));
      else if (*found < promised) broken.push_back(fmt::format("{}: version {}, {} was promised", path, *found, promised));
    }
    const std::uint32_t records = promised_->records[worker];
    const UniqueFd log(::open((home + "/log").c_str(), O_RDONLY | O_CLOEXEC));
    for (std::uint32_t number = 0; number < records; ++number) {
      std::array<char, kRecord> expected, found;
      fill_record(expected, number);
      if (!log || ::pread(log.get(), found.data(), found.size(), static_cast<off_t>(number * kRecord)) != kRecord || found != expected) {
        broken.push_back(fmt::format("{}/log: record {} of {} promised is missing or wrong", home, number, records));
        break;
      }
    }
    const std::uint32_t name = promised_->names[worker];
    const std::string linked = fmt::format("{}/linked.{}", home, name), next = fmt::format("{}/linked.{}", home, name + 1);
    struct stat s {};
    if (name > 0 && ::stat(linked.c_str(), &s) != 0 && ::stat(next.c_str(), &s) != 0)
      broken.push_back(fmt::format("{}: a synced hard link is missing", linked));
  }
  return broken;
}

std::uint64_t Workload::promises() const {
  std::uint64_t sum = 0;
  for (unsigned worker = 0; worker < kWorkers; ++worker) {
    for (const auto &version : promised_->versions[worker]) sum += version;
    sum += promised_->records[worker] + promised_->names[worker];
  }
  return sum;
}

std::uint64_t Workload::operations() const {
  std::uint64_t sum = 0;
  for (const auto &count : promised_->operations) sum += count;
  return sum;
}

}  // namespace outboard::tests
