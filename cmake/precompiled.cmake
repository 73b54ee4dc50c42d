# Most of the time of a build goes into the same standard headers, once per file, and into the optimisation of test programs.
# So those headers are compiled once for the layers and once for the tests, and the tests' own code is not optimised: it is
# big, runs once, and what it calls is. clang's build has none of this: it is the one that finds a missing #include.
option(OUTBOARD_PRECOMPILED_HEADERS "Compile the common standard headers once" ON)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  set(OUTBOARD_PRECOMPILED_HEADERS OFF)
endif()

set(outboard_common_headers <algorithm> <array> <atomic> <bit> <cassert> <chrono> <cstdint> <cstring> <deque> <expected>
    <functional> <limits> <map> <memory> <mutex> <optional> <set> <span> <string> <string_view> <thread> <unordered_map>
    <vector> <fmt/format.h>)

if(OUTBOARD_PRECOMPILED_HEADERS)
  target_compile_options(outboard_options INTERFACE -fpch-preprocess)  # for ccache
  file(WRITE ${CMAKE_BINARY_DIR}/precompiled.cc "")
  add_library(outboard_precompiled OBJECT ${CMAKE_BINARY_DIR}/precompiled.cc)
  target_link_libraries(outboard_precompiled PRIVATE outboard_options)
  target_precompile_headers(outboard_precompiled PRIVATE ${outboard_common_headers})
  if(OUTBOARD_TESTS)
    add_library(outboard_precompiled_tests OBJECT ${CMAKE_BINARY_DIR}/precompiled.cc)
    target_link_libraries(outboard_precompiled_tests PRIVATE outboard_options GTest::gtest)
    target_compile_options(outboard_precompiled_tests PRIVATE -O0)
    target_precompile_headers(outboard_precompiled_tests PRIVATE ${outboard_common_headers} <random> <gtest/gtest.h>)
  endif()
endif()

# The target takes the headers that `from` (one of the two above) was compiled from; tests are compiled without optimisation.
function(outboard_precompiled target from)
  if(from STREQUAL outboard_precompiled_tests)
    target_compile_options(${target} PRIVATE -O0)
  endif()
  if(OUTBOARD_PRECOMPILED_HEADERS)
    target_precompile_headers(${target} REUSE_FROM ${from})
  endif()
endfunction()
