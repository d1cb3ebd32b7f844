# Generated registry tables: a new file under formats/, models/ or quantize/ is known to the whole program without an
# edit elsewhere (the file's stem is the symbol's name). Static self-registration is not used: linkers drop
# unreferenced objects of static libraries.
