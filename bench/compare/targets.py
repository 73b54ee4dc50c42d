"""What is compared: ways to mount one ext4 image. Each knows how to mount, to unmount, and what its server has used."""
import os
import pathlib
import subprocess
import time

PATIENCE = 60  # seconds, for a mount to come up or to go


def run(*words, **options):
    return subprocess.run([str(w) for w in words], check=True, text=True, capture_output=True, **options).stdout.strip()


class Target:
    """A way to mount `image` at `directory`. Mounted and unmounted many times."""

    name = label = ""
    through_loop = False

    def __init__(self, image, directory, build):
        self.image, self.directory, self.build = pathlib.Path(image), pathlib.Path(directory), pathlib.Path(build)
        self.loop = None
        self.server = None
        self.peak_kib = 0
        self.cpu_seconds = 0.0

    def attach(self):
        if self.through_loop and self.loop is None:
            self.loop = run("losetup", "--find", "--show", self.image)

    def detach(self):
        if self.loop is not None:
            run("losetup", "--detach", self.loop)
            self.loop = None

    def source(self):
        return self.loop if self.through_loop else self.image

    def mount(self):
        self.attach()
        begin = time.monotonic()
        self.start()
        return time.monotonic() - begin

    def unmount(self):
        self.note_usage()
        begin = time.monotonic()
        self.stop()
        seconds = time.monotonic() - begin
        if self.server is not None:
            self.server.wait(PATIENCE)
            self.server = None
        return seconds

    def abandon(self):
        """After a failure: nothing of ours stays."""
        if os.path.ismount(self.directory):
            subprocess.run(["umount", "--lazy", str(self.directory)], check=False)
        if self.server is not None:
            self.server.kill()
            self.server.wait()
            self.server = None
        if self.loop is not None:
            subprocess.run(["losetup", "--detach", self.loop], check=False)
            self.loop = None

    def serve(self, *words):
        self.server = subprocess.Popen([str(w) for w in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while not os.path.ismount(self.directory):
            if self.server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.name}: the mount did not come up")
            time.sleep(0.0005)

    def note_usage(self):
        if self.server is None:
            return
        status = pathlib.Path(f"/proc/{self.server.pid}/status").read_text()
        self.peak_kib = max(self.peak_kib, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")))
        fields = pathlib.Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()
        self.cpu_seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Kernel(Target):
    name, label = "kernel", "kernel ext4, loop device"
    through_loop = True

    def start(self):
        run("mount", "-t", "ext4", self.source(), self.directory)

    def stop(self):
        run("umount", self.directory)


class Outboard(Target):
    name, label = "outboard", "Outboard, image file"

    def start(self):
        # The foreground process is the server, so that what it uses can be seen.
        self.serve(self.build / "src/tools/outboard", "mount", "--foreground", self.source(), self.directory)

    def stop(self):
        run(self.build / "src/tools/outboard", "umount", self.directory)


class OutboardLoop(Outboard):
    name, label = "outboard_loop", "Outboard, loop device"
    through_loop = True


class Fuse2fs(Target):
    name, label = "fuse2fs", "fuse2fs, image file"

    def start(self):
        self.serve("fuse2fs", "-f", self.source(), self.directory)

    def stop(self):
        run("umount", self.directory)


ALL = [Kernel, Outboard, OutboardLoop, Fuse2fs]
