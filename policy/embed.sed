# Turns a text into the C string classify_builtin (see meson.build).
s/\\/\\\\/g
s/"/\\"/g
s/.*/"&\\n"/
1i\
/* Made of contrib/examples/classify.rules. */\
#include "policy/classify.h"\
\
const char classify_builtin[] =
$a\
;
