// Real mounts for tests: ours through the `outboard` command, the kernel's through a loop device. Both are gone when the
// object goes, also when the test failed.
#pragma once

#include "fuse/wire.h"
#include "testing/image_builder.h"

#include <functional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace outboard::tests {

// Why mounts cannot be tested here ("no /dev/fuse", "not root"); empty when they can.
std::string why_no_mounts();

// The `outboard` program of this build.
std::string outboard_program();

class Mount {
public:
  virtual ~Mount() = default;
  const std::string &path() const { return path_; }
  const std::string &image() const { return image_; }
  // Everything to disk, the image released. An error text, or empty.
  virtual std::string unmount() = 0;

protected:
  Mount(std::string image, std::string path) : image_(std::move(image)), path_(std::move(path)) {}
  std::string image_, path_;
};

// `outboard mount --foreground`, so that the server's process is known.
class OutboardMount final : public Mount {
public:
  // Makes the directory. Aborts the test by a gtest failure (and mounted() false) when the mount does not come up.
  OutboardMount(const std::string &image, const std::string &directory, std::vector<std::string> options = {});
  ~OutboardMount() override;
  bool mounted() const { return mounted_; }
  std::string unmount() override;
  // SIGKILL, wait for the process, and take the dead mount away.
  void kill();
  // Somebody else has ended the mount or the server: waits for the process. Empty when that ended by itself and was well.
  std::string wait_for_end();
  pid_t server() const { return server_; }
  std::string log() const;

private:
  void detach();
  pid_t server_ = -1;
  bool mounted_ = false;
  std::string log_path_;
};

class KernelMount final : public Mount {
public:
  KernelMount(const std::string &image, const std::string &directory, const std::string &options = "");
  ~KernelMount() override;
  bool mounted() const { return mounted_; }
  std::string unmount() override;

private:
  bool mounted_ = false;
};

// How many requests of this FUSE opcode the server of an Outboard mount has received so far. A failure of the test when the
// server does not say.
std::uint64_t requests_received(const Mount &mount, fuse::wire::Opcode opcode);

// Waits for what somebody else does sooner or later. False when a minute was not enough.
bool eventually(const std::function<bool()> &condition);

// "" or what e2fsck -fn had to say.
std::string fsck_complaint(const std::string &image);

}  // namespace outboard::tests
