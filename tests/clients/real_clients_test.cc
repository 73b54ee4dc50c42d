// Real programs on a real mount: an untarred tree, git, a build, sqlite, rsync with ACLs, attributes and hard links; then the
// kernel reads what we wrote, and we read what the kernel wrote.
#include "support/mounts.h"
#include "testing/expect.h"

#include <cstdlib>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace outboard::tests {
namespace {

using testing::run_command;

class RealClients : public ::testing::Test {
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
    for (const char *program : {"git", "sqlite3", "rsync", "setfacl", "setfattr", "g++", "make", "tar"})
      if (!testing::have_program(program)) GTEST_SKIP() << program << " is not installed";
    ASSERT_OK(testing::make_image(image_, std::uint64_t{4} << 30, {}, 0));
  }
  // A bash script with $M the mount and $W a scratch directory; any failing command fails the test.
  void run(const std::string &mount, const std::string &script) {
    testing::CommandOptions options;
    options.environment = {"M=" + mount, "W=" + work_.path(), "SOURCE=" OUTBOARD_SOURCE, "HOME=" + work_.path(), "LC_ALL=C"};
    options.deadline = std::chrono::seconds(600);
    auto result = run_command({"bash", "-euc", script}, options);
    ASSERT_OK(result);
    ASSERT_EQ(result->exit, 0) << result->out << result->err;
  }
  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
};

constexpr const char *kMakeTree = R"sh(
mkdir "$1"; cd "$1"
for d in $(seq 60); do
  mkdir "dir$d"
  for f in $(seq 60); do head -c $(( (d * 131 + f * 977) % 9000 )) /dev/urandom > "dir$d/file$f"; done
done
head -c 30000000 /dev/urandom > big
truncate -s 50M sparse; printf end >> sparse
ln dir1/file1 hard1; ln dir1/file1 dir2/hard2
ln -s dir1/file1 short-link; ln -s "$(printf 'x%.0s' $(seq 300))" long-link
mkfifo fifo; mknod chr c 1 3; mknod blk b 259 300000
setfattr -n user.small -v value dir3/file3; setfattr -n user.large -v "$(head -c 2000 /dev/zero | tr '\0' v)" dir3/file4
setfattr -n trusted.t -v root dir3
setfacl -m u:1000:rwx,g:1001:r dir4/file1; setfacl -d -m u:1000:rwx dir4; mkdir dir4/inherits; touch dir4/inherits/file
chmod 4755 dir5/file1; chmod 2755 dir5; chmod 1777 dir6; chown 1000:1001 dir7/file1
touch -d '1969-12-31 23:00:00.123456789' dir8/file1; touch -h -d '2040-02-29 12:00:00.987654321' short-link
touch -d '2030-01-01 00:00:00.5' dir8
)sh";

// Everything stat, the ACLs, the attributes and the contents say, of every path.
constexpr const char *kDescribe = R"sh(
describe() { (cd "$1"; find . -path ./lost+found -prune -o -print0 | sort -z | while IFS= read -r -d '' f; do
  s=$(stat -c '%n %F %a %h %u %g %t:%T %y' "$f"); [ -d "$f" ] || s="$s $(stat -c %s "$f")"; echo "$s"; done
  getfattr -R -P -h -d -m - --absolute-names . 2>/dev/null | grep -v '^# file: ./lost+found'
  find . -type f -print0 | sort -z | xargs -0 sha256sum; find . -type l -printf '%p -> %l\n' | sort); }
)sh";

TEST_F(RealClients, TreesGitBuildsDatabasesAndRsyncComeOutRight) {
  {
    OutboardMount mount(image_, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    run(mount.path(), std::string("make_tree() {") + kMakeTree + "}\n" + R"sh(
      (make_tree "$W/tree")
      tar -C "$W/tree" --xattrs --xattrs-include='*' --acls -cf "$W/tree.tar" .
      mkdir "$M/untarred"; tar -C "$M/untarred" --xattrs --xattrs-include='*' --acls -xpf "$W/tree.tar"
      cmp "$W/tree/big" "$M/untarred/big"; diff -r --no-dereference -x fifo -x chr -x blk "$W/tree" "$M/untarred")sh");
    run(mount.path(), R"sh(
      mkdir "$M/repository"; cd "$M/repository"; cp -r "$SOURCE/src" "$SOURCE/tests" "$SOURCE/docs" .
      git init -q .; git config user.email a@b; git config user.name n; git add -A; git commit -qm first
      for i in 1 2 3 4 5; do for f in $(git ls-files | head -n 40); do echo "change $i" >> "$f"; done; git commit -qam "change $i"; done
      git gc -q; git fsck --strict; git checkout -q HEAD~3; git status --porcelain | { ! grep .; })sh");
    run(mount.path(), R"sh(
      mkdir "$M/build"; cd "$M/build"
      for i in $(seq 8); do printf 'int f%d(int x) { return x * %d; }\n' "$i" "$i" > "f$i.c"; done
      { for i in $(seq 8); do echo "int f$i(int);"; done; echo 'int main(void) { return f3(5) == 15 ? 0 : 1; }'; } > main.c
      printf 'program: main.o %s\n\tgcc -o $@ $^\n' "$(seq -f 'f%g.o' -s ' ' 8)" > Makefile
      make -s -j4 program; ./program)sh");
    run(mount.path(), R"sh(
      db="$M/data.sqlite"; sqlite3 "$db" 'pragma journal_mode=wal; create table t(id integer primary key, v text);' > /dev/null
      { echo 'pragma synchronous=full;'; for i in $(seq 10000); do echo "begin; insert into t values($i, 'value $i'); commit;"; done; } | sqlite3 "$db" > /dev/null
      [ "$(sqlite3 "$db" 'pragma integrity_check; select count(*), sum(id) from t;')" = "$(printf 'ok\n10000|50005000')" ])sh");
    run(mount.path(), R"sh(
      mkdir "$M/synced"; rsync -aHAX --delete "$W/tree/" "$M/synced/"
      rm -r "$W/tree/dir9"; echo more >> "$W/tree/dir10/file1"; mv "$W/tree/dir11" "$W/tree/dir11-renamed"
      rsync -aHAX --delete "$W/tree/" "$M/synced/"
      differences=$(rsync -aHAXnci --delete "$W/tree/" "$M/synced/"); [ -z "$differences" ] || { echo "$differences"; exit 1; })sh");
    run(mount.path(), std::string(kDescribe) + R"sh(describe "$M" > "$W/ours.txt")sh");
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image_), "");
  KernelMount kernel(image_, work_.file("kernel"));
  ASSERT_TRUE(kernel.mounted());
  run(kernel.path(), std::string(kDescribe) + R"sh(
    describe "$M" > "$W/kernel.txt"; diff "$W/ours.txt" "$W/kernel.txt" | head -n 40; cmp "$W/ours.txt" "$W/kernel.txt"
    diff -r --no-dereference -x fifo -x chr -x blk "$W/tree" "$M/synced")sh");
}

TEST_F(RealClients, ATreeWrittenByTheKernelReadsTheSame) {
  {
    KernelMount kernel(image_, work_.file("kernel"));
    ASSERT_TRUE(kernel.mounted());
    run(kernel.path(), std::string(kDescribe) + "make_tree() {" + kMakeTree + "}\n" + R"sh(
      (make_tree "$M/tree"); cp -r "$SOURCE/src" "$M/source"
      mkdir "$M/many"; cd "$M/many"; for i in $(seq 3000); do : > "a-file-with-a-name-$i"; done
      describe "$M" > "$W/kernel.txt")sh");
    ASSERT_EQ(kernel.unmount(), "");
  }
  OutboardMount mount(image_, work_.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  run(mount.path(), std::string(kDescribe) + R"sh(
    describe "$M" > "$W/ours.txt"; diff "$W/ours.txt" "$W/kernel.txt" | head -n 40; cmp "$W/ours.txt" "$W/kernel.txt")sh");
  EXPECT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image_), "");
}

TEST_F(RealClients, ADirectoryOfManyFilesIsMadeFoundListedAndRemoved) {
  const char *asked = std::getenv("OUTBOARD_LARGE_DIRECTORY");
  const std::string count = asked != nullptr ? asked : "50000";
  {
    OutboardMount mount(image_, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    run(mount.path(), "N=" + count + R"sh(
      mkdir "$M/large"; cd "$M/large"
      seq -f 'file-number-%.0f' "$N" | xargs touch
      [ "$(ls -f | grep -c file-number)" = "$N" ]
      seq -f 'file-number-%.0f' "$N" | xargs stat -c '' > /dev/null)sh");
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image_), "");
  {
    OutboardMount mount(image_, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    run(mount.path(), "N=" + count + R"sh(
      cd "$M/large"; [ "$(ls | wc -l)" = "$N" ]
      seq -f 'file-number-%.0f' 1 2 "$N" | xargs rm
      [ "$(ls | wc -l)" = "$((N / 2))" ]; cd "$M"; rm -r large)sh");
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image_), "");
}

}  // namespace
}  // namespace outboard::tests
