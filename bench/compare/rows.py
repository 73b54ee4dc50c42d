"""The rows: what is done to a mounted image in one round, in order. A row is a name and a rate (more is better)."""
import json
import pathlib
import subprocess
import time

from targets import run


def drop_caches():
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


class Round:
    """One target, one round: a fresh image, every row once."""

    def __init__(self, target, sizes, tree, note):
        self.target, self.sizes, self.tree, self.note = target, sizes, tree, note
        self.rates = {}

    def load(self, name, row=None):
        words = [self.target.build / "bench/compare/bench_load", name, self.target.directory]
        done = json.loads(run(*words, *self.sizes))
        self.rates[row or name] = done["amount"] / done["seconds"]
        self.note(row or name)

    def timed(self, row, amount, *words):
        begin = time.monotonic()
        run(*words)
        self.rates[row] = amount / (time.monotonic() - begin)
        self.note(row)

    def again_cold(self):
        self.target.unmount()
        drop_caches()
        self.target.mount()

    def run(self):
        run("truncate", "--size=0", self.target.image)
        run("truncate", "--size=4G", self.target.image)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", self.target.image)
        self.rates["mount_4g"] = 1 / self.target.mount()
        self.data()
        self.metadata()
        self.source_tree()
        self.rates["unmount_4g"] = 1 / self.target.unmount()
        self.target.detach()
        return self.rates

    def data(self):
        self.load("sequential_write")
        self.load("overwrite")
        self.again_cold()
        self.load("sequential_read", "sequential_read_cold")
        self.load("sequential_read", "sequential_read_warm")
        self.load("direct_read")
        self.load("direct_write")
        self.again_cold()
        self.load("random_read", "random_read_cold")
        for name in ("random_overwrite", "random_direct_read", "random_direct_write", "random_direct_read_32", "random_direct_write_32",
                     "random_direct_read_32x2", "random_direct_write_32x2", "append_fsync"):
            self.load(name)

    def metadata(self):
        self.load("create")
        self.load("create_2_threads")
        self.again_cold()
        self.load("stat", "stat_cold")
        self.load("stat", "stat_warm")
        self.again_cold()
        self.load("list")
        self.again_cold()
        self.load("small_read", "small_read_cold")
        self.load("rename")
        self.load("unlink")

    def source_tree(self):
        path = self.target.directory / "tree"
        path.mkdir()
        files = self.tree["files"]
        self.timed("untar", files, "tar", "-C", path, "-xf", self.tree["tar"])
        self.again_cold()
        self.timed("find", files, "find", path, "-type", "f", "-size", "+0")
        self.again_cold()
        # Not to /dev/null itself: tar would then not read the files.
        self.timed("tar", files, "sh", "-c", f"tar -C '{path}' -cf - . | cat > /dev/null")
        self.timed("rm_rf", files, "rm", "-rf", path)


def huge_mount(target, rounds, note):
    """Mount and unmount of a sparse image of 1 TiB."""
    run("truncate", "--size=0", target.image)
    run("truncate", "--size=1T", target.image)
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", target.image)
    rates = []
    for _ in range(rounds):
        drop_caches()
        seconds = target.mount()
        target.unmount()
        rates.append(1 / seconds)
        note("mount_1t")
    target.detach()
    return rates
