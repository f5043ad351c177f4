; The keyboard controller's pulse on the processor's reset line (command 0xFE).
;! end=reset
%include "guest.inc"

main:
    group "pulse of output port bit 0"
    mov al, 0xfe
    out 0x64, al
    mov ecx, 1000
.wait:
    loop .wait
    fail
    finish
