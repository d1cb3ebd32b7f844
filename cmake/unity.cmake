# Compiled sixteen at a time, sources share the parsing of their headers and the instances of their templates: a clean build
# takes half as long (docs/adding.md). The clang, fuzz and lint presets compile one by one, so an include that is
# missing here is noticed there.
set_target_properties(quench_core PROPERTIES UNITY_BUILD_BATCH_SIZE 16)
# The rows of a table are alike by design, down to the names of their local functions; kernels have flags of their own.
set_source_files_properties(${QUENCH_TABLE_SOURCES} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
file(GLOB_RECURSE device_sources CONFIGURE_DEPENDS src/devices/*.cc)
set_source_files_properties(${device_sources} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
# The HTTP library's headers alone take as long as four other sources together; nothing near them is to wait for that.
set_source_files_properties(src/measure/http_client.cc PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
if(QUENCH_TESTS)
  # Fewer of these: each brings local names of its own.
  set_target_properties(quench_tests PROPERTIES UNITY_BUILD_BATCH_SIZE 8)
endif()
