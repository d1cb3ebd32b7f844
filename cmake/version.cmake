# base/version.h's answers, made at build time so that the commit is the one that was built.
set(QUENCH_VERSION_CC ${CMAKE_BINARY_DIR}/registry/version.cc)
add_custom_target(quench_version
  COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${CMAKE_SOURCE_DIR} -DVERSION=${PROJECT_VERSION} -DOUT=${QUENCH_VERSION_CC}
          -P ${CMAKE_SOURCE_DIR}/cmake/write_version.cmake
  BYPRODUCTS ${QUENCH_VERSION_CC} COMMENT "")
