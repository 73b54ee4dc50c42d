// Assertions on Result and Status for tests. Each shows the error's own message.
#pragma once

#include "base/result.h"

#include <gtest/gtest.h>

namespace outboard::testing {

template <class T>::testing::AssertionResult is_ok(const Result<T> &result) {
  if (result) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << result.error().message() << " [" << result.error().where().file_name() << ":"
                                       << result.error().where().line() << "]";
}

template <class T>::testing::AssertionResult is_error(const Result<T> &result, int code) {
  if (!result && result.error().is(code)) return ::testing::AssertionSuccess();
  if (result) return ::testing::AssertionFailure() << "succeeded, expected errno " << code;
  return ::testing::AssertionFailure() << result.error().message() << ", expected errno " << code;
}

}  // namespace outboard::testing

#define ASSERT_OK(expression) ASSERT_TRUE(::outboard::testing::is_ok(expression))
#define EXPECT_OK(expression) EXPECT_TRUE(::outboard::testing::is_ok(expression))
#define ASSERT_ERROR(expression, code) ASSERT_TRUE(::outboard::testing::is_error(expression, code))
#define EXPECT_ERROR(expression, code) EXPECT_TRUE(::outboard::testing::is_error(expression, code))

// `ASSIGN_OK(auto device, FileDevice::open(...));` declares, or ends the test function.
#define ASSIGN_OK(declaration, expression) ASSIGN_OK_INNER_(declaration, expression, __LINE__)
#define ASSIGN_OK_INNER_(declaration, expression, line) ASSIGN_OK_INNER2_(declaration, expression, line)
#define ASSIGN_OK_INNER2_(declaration, expression, line)                                                               \
  auto assign_result_##line = (expression);                                                                            \
  ASSERT_TRUE(::outboard::testing::is_ok(assign_result_##line));                                                       \
  declaration = *std::move(assign_result_##line)
