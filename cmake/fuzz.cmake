# One libFuzzer target per parser of foreign bytes: tests/fuzz/<name>_fuzz.cc, corpus in tests/fuzz/corpus/<name>.
file(GLOB fuzz_sources CONFIGURE_DEPENDS tests/fuzz/*_fuzz.cc)
foreach(source ${fuzz_sources})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE quench_core)
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endforeach()
# Coverage feedback inside the library itself, not only in the target's few lines.
target_compile_options(quench_core PRIVATE -fsanitize=fuzzer-no-link)
