# Turns a text into a C string; meson.build puts its name before it.
s/\\/\\\\/g
s/"/\\"/g
s/.*/"&\\n"/
$a\
;
