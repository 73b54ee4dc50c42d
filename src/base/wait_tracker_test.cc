// The textbook deadlocks are reported when their steps have been taken one after the other by one thread, and the same steps in a
// good order are not. A report ends the process, so each is a process of its own.
#include "base/mutex.h"
#include "base/wait_tracker.h"

#include <gtest/gtest.h>
#include <thread>

namespace outboard {
namespace {

constinit WaitClass kTea{"test: tea is made"};
constinit WaitClass kCake{"test: cake is baked"};

// Steps are functions, so that the stacks of a report name them. Ranks permit both orders of two mutexes of rank `inode`.
struct Room {
  // Three classes: three places.
  Room()
      : first(Rank::inode),
        second(Rank::inode),
        shared(Rank::inode) {}
  Mutex first, second;
  SharedMutex shared;
  CondVar changed;
  bool tea = true, cake = true;  // nobody ever really waits
  Mutex around{Rank::leaf};

  void first_then_second() {
    MutexLock a(first);
    MutexLock b(second);
  }
  void second_then_first() {
    MutexLock b(second);
    MutexLock a(first);
  }
  void first_then_shared() {
    MutexLock a(first);
    ReadLock b(shared);
  }
  void shared_then_first() {
    ReadLock b(shared);
    MutexLock a(first);
  }
  void wait_for_tea() { about_to_wait(kTea); }
  void wait_for_tea_with_first() {
    MutexLock a(first);
    wait_for_tea();
  }
  void make_tea_with_first() {
    const Owes tea_owed(kTea);
    MutexLock a(first);
  }
  void make_tea_after_cake() {
    const Owes owed(kTea);
    about_to_wait(kCake);
  }
  void bake_after_tea() {
    const Owes owed(kCake);
    about_to_wait(kTea);
  }
  // The mutex that a condition gives up is not held while it waits.
  void wait_on_condition(WaitClass &what) {
    MutexLock lock(around);
    std::jthread other([&] {
      for (int i = 0; i < 50; ++i) {
        changed.notify_all();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
    changed.wait(around, what);
    lock.unlock();
  }
};

#define REPORTED(statement, pattern) EXPECT_DEATH(statement, pattern)
#define NOT_REPORTED(statement)                                                                                        \
  EXPECT_EXIT(                                                                                                         \
      {                                                                                                                \
        statement;                                                                                                     \
        std::_Exit(0);                                                                                                 \
      },                                                                                                               \
      ::testing::ExitedWithCode(0), "")

class WaitTrackerThreads : public ::testing::Test {
protected:
  void SetUp() override {
    if (!kTrackWaits) GTEST_SKIP() << "waits are tracked in builds with assertions";
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    ::unsetenv("OUTBOARD_WAIT_GRAPH");  // what is reported here is no finding
  }
  Room room;
};

TEST_F(WaitTrackerThreads, TwoLocksInBothOrdersAreReported) {
  REPORTED((room.first_then_second(), room.second_then_first()), "a deadlock has become possible(.|\n)*is waited for, here(.|\n)*is waited for, here");
}
TEST_F(WaitTrackerThreads, TwoLocksInOneOrderAreNot) { NOT_REPORTED((room.first_then_second(), room.first_then_second())); }

TEST_F(WaitTrackerThreads, AReadLockIsALock) { REPORTED((room.first_then_shared(), room.shared_then_first()), "a deadlock has become possible"); }

TEST_F(WaitTrackerThreads, ALockHeldAcrossAWaitWhoseSignallerNeedsItIsReported) {
  REPORTED((room.wait_for_tea_with_first(), room.make_tea_with_first()), "a deadlock(.|\n)*test: tea is made");
}
TEST_F(WaitTrackerThreads, InTheOtherSequenceToo) {
  REPORTED((room.make_tea_with_first(), room.wait_for_tea_with_first()), "a deadlock(.|\n)*test: tea is made");
}
TEST_F(WaitTrackerThreads, AWaitWithNothingHeldIsNot) { NOT_REPORTED((room.make_tea_with_first(), room.wait_for_tea())); }

TEST_F(WaitTrackerThreads, TwoEventsThatWaitForEachOtherAreReported) {
  REPORTED((room.make_tea_after_cake(), room.bake_after_tea()), "a deadlock(.|\n)*test: cake is baked(.|\n)*test: tea is made");
}
TEST_F(WaitTrackerThreads, EventsOneAfterTheOtherAreNot) { NOT_REPORTED((room.make_tea_after_cake(), room.wait_for_tea())); }

TEST_F(WaitTrackerThreads, AnEventThatOnlyTheWaiterOwesIsReported) {
  REPORTED(
      {
        const Owes owed(kTea);
        room.wait_for_tea();
      },
      "a deadlock");
}

TEST_F(WaitTrackerThreads, ACycleOfThreeIsReported) {
  REPORTED((room.wait_for_tea_with_first(), room.make_tea_after_cake(),
            [&] {
              const Owes owed(kCake);
              MutexLock a(room.first);
            }()),
           "a deadlock");
}

TEST_F(WaitTrackerThreads, AConditionGivesUpItsMutexButNoOther) {
  NOT_REPORTED((room.wait_on_condition(kTea), [&] {
    const Owes owed(kTea);
    MutexLock lock(room.around);
  }()));
  REPORTED(
      {
        {
          const Owes owed(kTea);
          MutexLock lock(room.first);
        }
        MutexLock lock(room.first);
        room.wait_on_condition(kTea);
      },
      "a deadlock");
}

TEST_F(WaitTrackerThreads, WaitingForWorkWithALockHeldIsReported) {
  REPORTED(
      {
        MutexLock lock(room.first);
        room.wait_on_condition(kIdle);
      },
      "waits for work while it holds");
}

// What threads do at the same time ends in one graph.
TEST_F(WaitTrackerThreads, StepsOfDifferentThreadsMakeOneCycle) {
  REPORTED(
      {
        std::jthread([&] { room.first_then_second(); }).join();
        std::jthread([&] { room.second_then_first(); }).join();
      },
      "a deadlock has become possible");
}

TEST_F(WaitTrackerThreads, TheGraphCountsClassesAndDependencies) {
  const wait_tracker::Size before = wait_tracker::size();
  Mutex outer(Rank::rename), inner(Rank::device);
  for (int i = 0; i < 3; ++i) {
    MutexLock a(outer);
    MutexLock b(inner);
  }
  const wait_tracker::Size after = wait_tracker::size();
  EXPECT_EQ(after.classes, before.classes + 2);
  EXPECT_EQ(after.dependencies, before.dependencies + 1);
}

}  // namespace
}  // namespace outboard
