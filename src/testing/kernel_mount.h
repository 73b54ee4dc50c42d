// The kernel's own ext4 on an image, through a loop device: the other judge. Only for images that are known to be
// sound.
#pragma once

#include "base/result.h"

#include <memory>
#include <string>

namespace outboard::testing {

// Why the kernel cannot mount images here ("not root", "no loop devices"); empty when it can. Tests skip with this
// text.
std::string why_no_kernel_mounts();

class KernelMount {
public:
  // Mounts the image at `directory`, which is made if it is not there. EINVAL with a line in the log when mount(8)
  // refuses.
  static Result<std::unique_ptr<KernelMount>> mount(const std::string &image, const std::string &directory,
                                                    const std::string &options = "");
  ~KernelMount();
  KernelMount(const KernelMount &) = delete;
  KernelMount &operator=(const KernelMount &) = delete;

  const std::string &path() const { return directory_; }
  std::string file(const std::string &name) const { return directory_ + "/" + name; }
  // The image is the kernel's no more when this returns success.
  Status unmount();

private:
  explicit KernelMount(std::string directory) : directory_(std::move(directory)) {}
  std::string directory_;
  bool mounted_ = true;
};

}  // namespace outboard::testing
