# What "cmake --install" and the archive of tools/make_dist.sh hold:
#   bin/quench
#   lib/quench/                  plug-ins that are opened at run time (CUDA), where the build made one
#   share/quench/                models/demo, tasks, recipes, hardware, texts: the data the program looks for in
#                                ../share/quench from where it lies
#   include/quench/              the public headers
# The folder names are fixed, not taken from the system's habits (lib64, lib/x86_64-linux-gnu): the program finds its
# libraries and data relative to itself, wherever the tree is moved.
install(TARGETS quench RUNTIME DESTINATION bin)
if(TARGET quench_cuda)
  install(TARGETS quench_cuda LIBRARY DESTINATION lib/quench)
endif()
install(DIRECTORY include/quench DESTINATION include)
foreach(folder models tasks recipes hardware texts)
  # Asked for at install time, so that a folder that comes later is not forgotten until somebody configures again.
  install(DIRECTORY ${folder} DESTINATION share/quench OPTIONAL
          PATTERN "__pycache__" EXCLUDE PATTERN "*.pyc" EXCLUDE)
endforeach()
